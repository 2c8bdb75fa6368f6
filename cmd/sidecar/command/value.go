package command

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// valueLimit bounds what "$FILE:path" stands for. The longest honest values are
// keys and certificates, of some kilobytes; a Kubernetes secret ends at 1 MiB too.
const valueLimit = 1 << 20

// readValue reads a file that a data file refers to. Links are followed: a
// mounted Kubernetes secret is two of them. What is no regular file in the end is
// refused: a pipe may never speak, a device never end. The public message of the
// error is for the operator, and holds nothing of the file.
func readValue(path string) ([]byte, error) {
	// Opening a pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(err)
	}
	defer func() { _ = f.Close() }() // only read
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, unreadable(err)
	case st.IsDir():
		return nil, fault.New(fault.InvalidArgument, "it is a directory")
	case !st.Mode().IsRegular():
		return nil, fault.New(fault.InvalidArgument, "it is no regular file")
	}
	// The size is not believed: a file may grow, and those of /proc have none.
	b, err := io.ReadAll(io.LimitReader(f, valueLimit+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(b) > valueLimit:
		return nil, fault.Newf(fault.TooLarge, "a value has at most %d bytes", valueLimit)
	}
	return b, nil
}

func unreadable(err error) error {
	message := "it cannot be opened and read"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		message = "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		message = "this user may not read it"
	case errors.Is(err, syscall.ENXIO): // a socket's way to refuse
		message = "it is no regular file"
	}
	return fault.New(fault.InvalidArgument, message).WithCause(err)
}
