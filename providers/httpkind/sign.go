package httpkind

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The signatures that a request can carry.
const (
	// standardWebhooks signs id, time and body and sends them along
	// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
	standardWebhooks = "standard_webhooks"
	// hmacSHA256 signs the body alone, as GitHub does
	// (https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries).
	hmacSHA256 = "hmac_sha256"
)

// add signs body. Without the secret nothing is added.
func (s *sign) add(h http.Header, v values, body []byte) (problem string) {
	secret, ok := v.text(s.Secret)
	if !ok {
		return ""
	}
	if s.Scheme == hmacSHA256 {
		mac := digest([]byte(secret), body)
		encoded := hex.EncodeToString(mac)
		if s.Base64 {
			encoded = base64.StdEncoding.EncodeToString(mac)
		}
		return setHeader(h, s.Header, s.Prefix+encoded)
	}
	key := []byte(secret)
	if encoded, found := strings.CutPrefix(secret, "whsec_"); found {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return "The signing secret begins with whsec_, but what follows is not base64."
		}
	}
	at, err := time.Parse(time.RFC3339, v.extra[nowName])
	if err != nil {
		return "The time can't be read."
	}
	id, seconds := v.extra[idName], strconv.FormatInt(at.Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", seconds)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(digest(key, []byte(id+"."+seconds+"."+string(body)))))
	return ""
}

func digest(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}
