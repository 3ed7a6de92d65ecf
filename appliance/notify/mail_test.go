package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"riparo/replication"
	"riparo/store"
)

// post is a real mail server: SMTP as others implement it.
type post struct {
	server    *smtp.Server
	host      string
	port      int
	authority string // PEM

	mu   sync.Mutex // guards mail
	mail []letter
}

type letter struct {
	from, to string
	text     string
	user     string
	tls      bool
}

func openPost(t *testing.T, security string) *post {
	t.Helper()
	p := &post{host: "127.0.0.1"}
	certificate, authority := selfSigned(t)
	p.authority = authority
	p.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, encrypted := c.TLSConnectionState()
		return &session{post: p, letter: letter{tls: encrypted}}, nil
	}))
	p.server.Domain = "post.example"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	switch security {
	case store.MailTLS:
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}})
	case store.MailStartTLS:
		p.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	case store.MailPlain:
		p.server.AllowInsecureAuth = true
	}
	done := make(chan struct{})
	go func() { defer close(done); p.server.Serve(l) }()
	t.Cleanup(func() { p.server.Close(); <-done })
	return p
}

type session struct {
	post *post
	letter
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "riparo" || password != "the mail password" {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "authentication failed"}
		}
		s.user = user
		return nil
	}), nil
}
func (s *session) Mail(from string, _ *smtp.MailOptions) error { s.from = from; return nil }
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	s.to = to
	return nil
}
func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.text = string(text)
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	s.post.mail = append(s.post.mail, s.letter)
	return err
}
func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

func (p *post) take() []letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	mail := p.mail
	p.mail = nil
	return mail
}

func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "post"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// parts are the text and the HTML of a letter.
func (l letter) parts(t *testing.T) (head mail.Header, text, html string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(l.text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, l.text)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("the mail is %q, %v; want multipart/alternative", kind, err)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return m.Header, text, html
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part) // the reader undoes quoted-printable
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			html += string(body)
		} else {
			text += string(body)
		}
	}
}

func (s *stage) mailed(p *post, security string) store.Notifications {
	return store.Notifications{Mail: store.Mail{Host: p.host, Port: p.port, Security: security, User: "riparo", Password: s.Secret.Seal("the mail password"), From: "riparo@milano.example", Authority: p.authority,
		Recipients: []store.MailRecipient{{Address: "anna@milano.example", Severity: store.SeverityWarning, Language: "it", Ended: true}, {Address: "bob@milano.example", Severity: store.SeverityCritical, Language: "en"}}}}
}

func TestMailArrivesInTheReadersLanguage(t *testing.T) {
	for _, security := range []string{store.MailTLS, store.MailStartTLS, store.MailPlain} {
		t.Run(security, func(t *testing.T) {
			s, p := newStage(t), openPost(t, security)
			s.save(s.mailed(p, security))
			s.away("Roma")
			s.pass(3 * time.Minute)
			letters := p.take()
			if len(letters) != 2 {
				t.Fatalf("%d letters, want one for each: %+v", len(letters), s.messages())
			}
			for _, l := range letters {
				head, text, html := l.parts(t)
				subject, err := new(mime.WordDecoder).DecodeHeader(head.Get("Subject"))
				want := "Riparo Milano 1: Site Roma has not answered since 26 Nov 2026, 12:00:10 UTC"
				cause := "it does not answer"
				if l.to == "anna@milano.example" {
					cause = "non risponde"
					want = "Riparo Milano 1: Il sito Roma non risponde dal 26 nov 2026, 12:00:10 UTC"
				}
				if err != nil || subject != want {
					t.Errorf("subject %q, want %q", subject, want)
				}
				title := strings.TrimPrefix(want, "Riparo Milano 1: ")
				for name, body := range map[string]string{"text": text, "HTML": html} {
					for _, part := range []string{title, cause, "look at it", "https://milano.example:9443/"} {
						if !strings.Contains(body, part) {
							t.Errorf("the %s lacks %q:\n%s", name, part, body)
						}
					}
				}
				if l.from != "riparo@milano.example" || l.user != "riparo" || l.tls != (security != store.MailPlain) {
					t.Errorf("sent by %s as %q, encrypted %v", l.from, l.user, l.tls)
				}
				if id := head.Get("Message-Id"); !strings.Contains(id, head.Get("X-Riparo-Delivery")) || head.Get("Auto-Submitted") != "auto-generated" {
					t.Errorf("message ID %q, delivery %q", id, head.Get("X-Riparo-Delivery"))
				}
			}
			s.away()
			s.pass(3 * time.Minute)
			if over := p.take(); len(over) != 1 || over[0].to != "anna@milano.example" {
				t.Errorf("%d letters that it is over, want one for who asked for that", len(over))
			}
		})
	}
}

func TestWhatIsWrongWithMailIsTold(t *testing.T) {
	s, starttls, plain := newStage(t), openPost(t, store.MailStartTLS), openPost(t, store.MailPlain)
	for _, row := range []struct {
		name   string
		change func(m *store.Mail)
		action string
	}{
		{"a wrong password", func(m *store.Mail) { m.Password = s.Secret.Seal("guess") }, "check the name and the password"},
		{"a certificate of nobody known", func(m *store.Mail) { m.Authority = "" }, "certificate of the mail server is not trusted"},
		{"no STARTTLS there", func(m *store.Mail) { m.Port = plain.port }, "offers no STARTTLS"},
		{"nobody listens", func(m *store.Mail) { m.Port = 1 }, "can be reached"},
		{"no such mailbox", func(m *store.Mail) { m.Recipients[0].Address = "nobody@milano.example" }, "takes mail from"},
		{"a password of another appliance", func(m *store.Mail) { m.Password = []byte("0123456789012345678901234567890123456789") }, "type the mail password"},
	} {
		n := s.mailed(starttls, store.MailStartTLS)
		row.change(&n.Mail)
		s.save(n)
		err := s.Test(t.Context(), "mail:"+n.Mail.Recipients[0].Address)
		if err == nil || !strings.Contains(replication.AsProblem(err).Action, row.action) {
			t.Errorf("%s: got %v, want an action with %q", row.name, err, row.action)
		}
	}
	if got := append(starttls.take(), plain.take()...); len(got) != 0 {
		t.Errorf("%d letters arrived", len(got))
	}
	s.save(s.mailed(starttls, store.MailStartTLS))
	if err := s.Test(t.Context(), "mail:anna@milano.example"); err != nil {
		t.Fatal(err)
	}
	if got := starttls.take(); len(got) != 1 {
		t.Fatalf("%d letters, want the test", len(got))
	} else if _, text, _ := got[0].parts(t); !strings.Contains(text, "È arrivato") {
		t.Errorf("the test says\n%s", text)
	}
}
