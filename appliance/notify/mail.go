package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	mail "github.com/wneessen/go-mail"

	"riparo/replication"
	"riparo/store"
	"riparo/web/view"
)

// Ports of a mail server by how the connection is protected.
var mailPorts = map[string]int{store.MailStartTLS: 587, store.MailTLS: 465, store.MailPlain: 25}

// mail sends a message by mail, as text and as HTML.
func (n *Notifier) mail(ctx context.Context, s store.Mail, r store.MailRecipient, d store.Delivery) error {
	words := n.message(r.Language, d)
	msg := mail.NewMsg()
	if err := msg.FromFormat("Riparo "+n.Name(), s.From); err != nil {
		return mailProblem(s, "the sender "+s.From+" is no mail address", err)
	}
	if err := msg.To(r.Address); err != nil {
		return mailProblem(s, "the recipient "+r.Address+" is no mail address", err)
	}
	msg.Subject(words.Subject())
	// The ID of the message is that of the delivery: mail systems show a second copy
	// once.
	_, domain, _ := strings.Cut(s.From, "@")
	msg.SetMessageIDWithValue(d.ID + "@" + cmp.Or(domain, "riparo.invalid"))
	msg.SetDateWithValue(n.Now())
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Riparo-Delivery", d.ID)
	msg.SetUserAgent("Riparo")
	var html bytes.Buffer
	if err := view.MailPage(words).Render(view.With(ctx, words.Words), &html); err != nil {
		return fmt.Errorf("write the mail: %w", err)
	}
	msg.SetBodyString(mail.TypeTextPlain, words.Text())
	msg.AddAlternativeString(mail.TypeTextHTML, html.String())
	client, err := n.mailClient(s)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return mailProblem(s, err.Error(), err)
	}
	return nil
}

func (n *Notifier) mailClient(s store.Mail) (*mail.Client, error) {
	password, err := n.Secret.Open(s.Password)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12}
	if s.Authority != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(s.Authority))
	}
	options := []mail.Option{mail.WithTLSConfig(config), mail.WithTimeout(attemptTime), mail.WithPort(cmp.Or(s.Port, mailPorts[s.Security]))}
	switch s.Security {
	case store.MailTLS:
		options = append(options, mail.WithSSL())
	case store.MailPlain:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.User != "" {
		// Which way to sign in is agreed with the server. Without encryption the
		// library only shows the password when it is told to: who chose that was
		// warned.
		way := mail.SMTPAuthAutoDiscover
		if s.Security == store.MailPlain {
			way = mail.SMTPAuthPlainNoEnc
		}
		options = append(options, mail.WithSMTPAuth(way), mail.WithUsername(s.User), mail.WithPassword(password))
	}
	client, err := mail.NewClient(s.Host, options...)
	if err != nil {
		return nil, mailProblem(s, err.Error(), err)
	}
	return client, nil
}

func mailProblem(s store.Mail, why string, err error) error {
	action := "see that the mail server is right, that it can be reached from here, and that it takes mail from " + s.From
	switch {
	case strings.Contains(why, "x509:") || strings.Contains(why, "tls:"):
		action = "the certificate of the mail server is not trusted: give the certificate of its authority, or its right name"
	case strings.Contains(strings.ToLower(why), "auth"):
		action = "check the name and the password for the mail server"
	case strings.Contains(why, "STARTTLS"):
		action = "the mail server offers no STARTTLS here: choose TLS, or another port"
	}
	return &replication.Problem{Code: "notify.mail", Cause: fmt.Sprintf("the mail server %s did not take the message: %s", s.Host, why),
		Effect: "it is sent again later", Action: action, Remedy: replication.Retry, Err: err}
}

// Greet sees that the mail server answers and takes our name and password.
func (n *Notifier) Greet(ctx context.Context) error {
	s, err := n.Settings()
	if err != nil || s.Mail.Host == "" {
		return err
	}
	client, err := n.mailClient(s.Mail)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if err := client.DialWithContext(ctx); err != nil {
		return mailProblem(s.Mail, err.Error(), err)
	}
	return client.Close()
}
