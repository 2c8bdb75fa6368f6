package testenv_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// The server must refuse what real ones refuse, else a test of ours that passes
// proves nothing. The standard library's client gives a second opinion here.
func TestMailServerRefusesWhatRealOnesRefuse(t *testing.T) {
	t.Parallel()
	server := testenv.SMTP(t)
	for _, row := range []struct {
		name, password string
		encrypt        bool
		code           int
	}{
		{"no encryption", "", false, 530},
		{"no password", "", true, 530},
		{"wrong password", "wrong", true, 535},
		{"right password", server.Password, true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			to := fmt.Sprintf("to-%d@example.org", row.code)
			err := send(server, row.encrypt, row.password, to)
			code := 0
			if reply, ok := errors.AsType[*textproto.Error](err); ok {
				code = reply.Code
			}
			if code != row.code || (err == nil) != (row.code == 0) {
				t.Fatalf("send: %v, want code %d", err, row.code)
			}
			mails := server.Received(t, to)
			if (len(mails) == 1) != (row.code == 0) {
				t.Fatalf("%d mails arrived", len(mails))
			}
			if row.code == 0 && (mails[0].Subject != "hello" || mails[0].From != "from@example.org" || mails[0].To[0] != to) {
				t.Errorf("what arrived is %+v", mails[0])
			}
		})
	}
}

func send(server *testenv.MailServer, encrypt bool, password, to string) error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.Port))
	if err != nil {
		return err
	}
	defer conn.Close()
	c, err := smtp.NewClient(conn, server.Host)
	if err != nil {
		return err
	}
	if encrypt {
		if err := c.StartTLS(&tls.Config{ServerName: server.Host, RootCAs: server.Roots}); err != nil {
			return err
		}
	}
	if password != "" {
		if err := c.Auth(smtp.PlainAuth("", server.Username, password, server.Host)); err != nil {
			return err
		}
	}
	if err := c.Mail("from@example.org"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "From: from@example.org\r\nTo: %s\r\nSubject: hello\r\n\r\nbody\r\n", to)
	return w.Close()
}
