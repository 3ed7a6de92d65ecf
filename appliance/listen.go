package appliance

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"riparo/appliance/certificate"
	"riparo/replication"
	"riparo/store"
)

// listen takes the port and the certificate.
func (a *Appliance) listen() error {
	given, err := a.givenNames()
	if err != nil {
		return err
	}
	if a.certificate, err = certificate.Open(filepath.Join(a.config.Data, "pki"), append(a.names(), given...), time.Now); err != nil {
		return err
	}
	// Whoever gave the console another name, when it was restored at another address,
	// wants to open it there.
	if i := a.certificate.Info(); i.Own && !containsAll(i.Names, given) {
		if err := a.certificate.Renew(); err != nil {
			return err
		}
		a.part("appliance").Warn("the certificate of the console was renewed for its new address", "names", given, "fingerprint", a.certificate.Info().Fingerprint)
	}
	a.Fingerprint = a.certificate.Info().Fingerprint
	handler, err := a.handler()
	if err != nil {
		return err
	}
	if a.listener == nil {
		a.listener, err = net.Listen("tcp", a.config.Listen)
	} else {
		err = ready(a.listener)
	}
	if err != nil {
		return &replication.Problem{Code: "listen.refused", Cause: fmt.Sprintf("cannot listen on %s: %v", a.config.Listen, err),
			Effect: "the appliance does not start", Action: "choose another address with --listen, or end the program that uses this one", Remedy: replication.Stop, Err: err}
	}
	a.URL = "https://" + a.listener.Addr().String() + "/"
	a.server = &http.Server{
		Handler:           handler,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: a.certificate.Certificate},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.part("console").Handler(), slog.LevelDebug),
	}
	return nil
}

// Address is where it listens, HOST:PORT.
func (a *Appliance) Address() string { return a.listener.Addr().String() }

// HandOn gives the listener to the appliance that is opened next, as its
// Config.Listener; Close does not close it any more. It is called after Run has returned
// ErrRestart. Whoever connects meanwhile waits until the next one answers, and is not
// refused.
func (a *Appliance) HandOn() net.Listener {
	a.handedOn = true
	return a.listener
}

// lasting is a listener that goes on to be connected to while the appliance begins
// again: its Close ends the waiting of Accept alone.
type lasting struct {
	net.Listener
	restart <-chan struct{}
}

func (l lasting) Close() error {
	select {
	case <-l.restart:
		if d, ok := l.Listener.(deadliner); ok {
			return d.SetDeadline(time.Now())
		}
	default:
	}
	return l.Listener.Close()
}

// deadliner is what listeners of all systems are.
type deadliner interface{ SetDeadline(time.Time) error }

// ready lets a listener that was handed on accept again.
func ready(l net.Listener) error {
	if d, ok := l.(deadliner); ok {
		return d.SetDeadline(time.Time{})
	}
	return nil
}

// certificateEnd is when the console's certificate ends.
func (a *Appliance) certificateEnd() time.Time {
	if a.certificate == nil {
		return time.Time{}
	}
	return a.certificate.Info().Ends
}

// givenNames are those of the console that a person said.
func (a *Appliance) givenNames() (names []string, err error) {
	err = a.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingNames, &names)
		return err
	})
	return names, err
}

func containsAll(list, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(name string) bool { return !slices.Contains(list, name) })
}

// names are those that the console is reached under, as far as the daemon knows.
func (a *Appliance) names() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	if name, _, err := net.SplitHostPort(a.config.Listen); err == nil {
		if ip := net.ParseIP(name); ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
			names = append(names, name)
		}
	}
	return names
}
