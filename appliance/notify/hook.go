package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"riparo/replication"
	"riparo/store"
)

// Headers of a web hook. The signature is "v1=" and the HMAC-SHA-256, in hex, of the
// timestamp, a dot and the body, under the secret of the hook.
const (
	HeaderDelivery  = "Riparo-Delivery"
	HeaderTimestamp = "Riparo-Timestamp" // seconds since 1970
	HeaderSignature = "Riparo-Signature"
)

// payload is the body of a web hook.
type payload struct {
	ID        string        `json:"id"` // the same when it is sent again
	Appliance string        `json:"appliance"`
	URL       string        `json:"url"`
	Created   time.Time     `json:"created"`
	Test      bool          `json:"test"`
	More      int           `json:"more"` // alerts that did not find room
	Alerts    []hookedAlert `json:"alerts"`
}

type hookedAlert struct {
	What string `json:"what"` // raised, reminded, ended
	Text string `json:"text"` // in English
	store.Alert
}

// Sign gives the signature of a body.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, timestamp+".")
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// hook sends a message to a web address.
func (n *Notifier) hook(ctx context.Context, h store.Hook, d store.Delivery) error {
	secret, err := n.Secret.Open(h.Secret)
	if err != nil {
		return err
	}
	words := n.message("en", d)
	p := payload{ID: d.ID, Appliance: n.Name(), URL: n.URL(), Created: d.Created, Test: d.Test, More: d.More, Alerts: []hookedAlert{}}
	for i, item := range d.Items {
		p.Alerts = append(p.Alerts, hookedAlert{What: item.What, Text: words.Items[i].Title, Alert: item.Alert})
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return unsent(h, err.Error(), err)
	}
	timestamp := strconv.FormatInt(n.Now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Riparo")
	request.Header.Set(HeaderDelivery, d.ID)
	request.Header.Set(HeaderTimestamp, timestamp)
	request.Header.Set(HeaderSignature, Sign(secret, timestamp, body))
	// A client of its own: a hook is called rarely, and its proxy may have changed.
	transport := &http.Transport{Proxy: n.Proxy, TLSHandshakeTimeout: attemptTime, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return unsent(h, err.Error(), err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // lets the peer finish
	if response.StatusCode/100 != 2 {
		return unsent(h, "it answered "+response.Status, nil)
	}
	return nil
}

func unsent(h store.Hook, why string, err error) error {
	return &replication.Problem{Code: "notify.hook", Cause: fmt.Sprintf("the web hook %s did not take the message: %s", h.URL, why),
		Effect: "it is sent again later", Action: "see that the address is right and reachable from here", Remedy: replication.Retry, Err: err}
}
