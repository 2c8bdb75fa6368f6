# One static binary in an image without a shell, a package manager or root.
#   docker build --build-arg VERSION=1.2.3 --build-arg REVISION=$(git rev-parse HEAD) -t patchbay:1.2.3 .
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# Modules change less often than code: this layer is kept between builds.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG TARGETOS=linux
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X github.com/patchbay-dev/patchbay/cmd/sidecar/command.version=$VERSION" -o /sidecar ./cmd/sidecar

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Patchbay" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /sidecar /sidecar
# By number, so that Kubernetes' runAsNonRoot can see that it isn't root.
USER 65532:65532
EXPOSE 7411 7412 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/sidecar", "healthcheck"]
ENTRYPOINT ["/sidecar"]
CMD ["serve"]
