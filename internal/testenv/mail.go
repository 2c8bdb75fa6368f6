package testenv

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// MailServer is a submission server that demands STARTTLS and a password,
// delivers nothing, and shows what it took.
type MailServer struct {
	Host     string // what its certificate is for
	Port     int
	Roots    *x509.CertPool // who signed its certificate
	Username string
	Password string
	API      string // http://host:port

	private
}

// Mail is one message that a MailServer took.
type Mail struct {
	From    string // address
	To      []string
	Subject string
	Text    string
	Raw     string // header and body as they came
}

// SMTP is the server shared by the tests of this process. Recipients are
// the tests' own to make up and to keep apart.
func SMTP(t testing.TB) *MailServer {
	t.Helper()
	return env.mail.get(t, "a mail server", startMail)
}

func startMail() (*MailServer, error) {
	bin, err := findMailpit()
	if err != nil {
		if bin, err = buildMailpit(); err != nil {
			return nil, err
		}
	}
	dir, err := newFolder("mail", false)
	if err != nil {
		return nil, err
	}
	s := &MailServer{Host: "localhost", Username: "acme", Password: fmt.Sprintf("pass-%d", time.Now().UnixNano())}
	s.private = private{dir: dir, probe: s.ping}
	if err := s.prepare(dir); err != nil {
		s.end()
		return nil, err
	}
	for range 5 {
		var web int
		if s.Port, err = reservePort(); err != nil {
			break
		}
		if web, err = reservePort(); err != nil {
			break
		}
		s.API = fmt.Sprintf("http://127.0.0.1:%d", web)
		s.command = command{bin: bin, dir: dir, end: syscall.SIGTERM, args: []string{
			"--smtp", fmt.Sprintf("127.0.0.1:%d", s.Port), "--listen", fmt.Sprintf("127.0.0.1:%d", web),
			"--smtp-auth-file", filepath.Join(dir, "users"), "--smtp-require-starttls",
			"--smtp-tls-cert", filepath.Join(dir, "cert.pem"), "--smtp-tls-key", filepath.Join(dir, "key.pem"),
			"--smtp-disable-rdns", "--disable-version-check", "--database", filepath.Join(dir, "mail.db"), "--quiet",
		}}
		if err = s.start(); err == nil || !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// prepare writes the certificate and the password file.
func (s *MailServer) prepare(dir string) error {
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	s.Roots = authority.Roots()
	cert, err := authority.issue(time.Now().Add(24*time.Hour), s.Host, "127.0.0.1")
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode the mail server's key: %w", err)
	}
	for name, content := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"users":    []byte(s.Username + ":" + s.Password + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write a file of the mail server: %w", err)
		}
	}
	return nil
}

func (s *MailServer) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := s.get(ctx, "/readyz")
	return err
}

// Received lists what came for a recipient so far, newest first. The server has
// a message before it accepts it: nothing has to be waited for.
func (s *MailServer) Received(t testing.TB, recipient string) []Mail {
	t.Helper()
	mails, err := s.received(t.Context(), recipient)
	if err != nil {
		t.Fatal(err)
	}
	return mails
}

func (s *MailServer) received(ctx context.Context, recipient string) ([]Mail, error) {
	var found struct {
		Messages []struct {
			ID string
		} `json:"messages"`
	}
	if err := s.read(ctx, "/api/v1/search?query="+url.QueryEscape(`to:"`+recipient+`"`), &found); err != nil {
		return nil, err
	}
	mails := make([]Mail, 0, len(found.Messages))
	for _, m := range found.Messages {
		type address struct{ Address string }
		var detail struct {
			From          address
			To            []address
			Subject, Text string
		}
		if err := s.read(ctx, "/api/v1/message/"+m.ID, &detail); err != nil {
			return nil, err
		}
		raw, err := s.get(ctx, "/api/v1/message/"+m.ID+"/raw")
		if err != nil {
			return nil, err
		}
		mail := Mail{From: detail.From.Address, Subject: detail.Subject, Text: detail.Text, Raw: string(raw)}
		for _, to := range detail.To {
			mail.To = append(mail.To, to.Address)
		}
		mails = append(mails, mail)
	}
	return mails, nil
}

func (s *MailServer) read(ctx context.Context, path string, v any) error {
	body, err := s.get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

func (s *MailServer) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.API+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the mail server: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", path, res.Status)
	}
	return body, nil
}
