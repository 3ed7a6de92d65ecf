package appliance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// approveSignOn is the kind of request to change who a sign-in service makes an
// administrator.
const approveSignOn = "change-sign-in"

// Names of the sign-in services.
const (
	serviceOpenID    = "openid"
	serviceDirectory = "directory"
)

// SaveOpenID changes how people sign in with OpenID Connect. What touches who becomes an
// administrator by it takes four eyes.
func (a *Appliance) SaveOpenID(ctx context.Context, who api.Who, o api.OpenID) error {
	was, err := a.identity.SignOnMark(serviceOpenID)
	if err != nil {
		return err
	}
	before, _, err := a.identity.SignOn()
	if err != nil {
		return err
	}
	// Neither the word on the button nor our secret decides who anybody is.
	plain := func(o api.OpenID) api.OpenID { o.Label, o.Secret, o.HasSecret = "", "", false; return o }
	changed, err := changedSettings(plain(before), plain(o))
	if err != nil {
		return err
	}
	text := watchedService("the sign-in service "+o.Issuer, makers(before.Enabled, before.Roles), makers(o.Enabled, o.Roles), changed)
	if text != "" {
		if err := a.identity.TryOpenID(ctx, o); err != nil {
			return err
		}
		if err := a.askSignOn(who, serviceOpenID, was, text, o, o.Secret); err != nil {
			return err
		}
	}
	return a.identity.SaveOpenID(ctx, who.Name, o)
}

// SaveDirectory changes how people sign in with a directory. What touches who becomes an
// administrator by it takes four eyes.
func (a *Appliance) SaveDirectory(ctx context.Context, who api.Who, d api.Directory) error {
	was, err := a.identity.SignOnMark(serviceDirectory)
	if err != nil {
		return err
	}
	_, before, err := a.identity.SignOn()
	if err != nil {
		return err
	}
	plain := func(d api.Directory) api.Directory { d.Password, d.HasPassword = "", false; return d }
	changed, err := changedSettings(plain(before), plain(d))
	if err != nil {
		return err
	}
	text := watchedService("the directory "+d.URL, makers(before.Enabled, before.Roles), makers(d.Enabled, d.Roles), changed)
	if text != "" {
		if err := a.identity.TryDirectory(ctx, d); err != nil {
			return err
		}
		if err := a.askSignOn(who, serviceDirectory, was, text, d, d.Password); err != nil {
			return err
		}
	}
	return a.identity.SaveDirectory(ctx, who.Name, d)
}

// changedSettings names what differs between what is kept and what comes: nothing and an
// empty list are one.
func changedSettings(x, y any) ([]string, error) {
	var fields [2]map[string]any
	for i, settings := range []any{x, y} {
		text, err := json.Marshal(settings)
		if err == nil {
			err = json.Unmarshal(text, &fields[i])
		}
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(fields[i], func(_ string, value any) bool {
			list, is := value.([]any)
			return value == nil || value == "" || is && len(list) == 0
		})
	}
	var changed []string
	for name := range maps.Keys(fields[0]) {
		if !reflect.DeepEqual(fields[0][name], fields[1][name]) {
			changed = append(changed, name)
		}
	}
	for name := range maps.Keys(fields[1]) {
		if _, before := fields[0][name]; !before {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed, nil
}

// makers are the groups and claims that make somebody an administrator.
func makers(enabled bool, rules []api.RoleRule) (values []string) {
	for _, rule := range rules {
		if enabled && rule.Role == store.Administrator {
			values = append(values, rule.Value)
		}
	}
	return values
}

// watchedService says what is asked for when it takes four eyes: any change of a service
// that makes administrators, for its address, its filters and its claims decide who they
// are as much as its rules do.
func watchedService(service string, before, after, changed []string) string {
	switch {
	case len(changed) == 0 || len(before)+len(after) == 0:
		return ""
	case len(after) == 0:
		return fmt.Sprintf("let %s make nobody an administrator any more", service)
	}
	return fmt.Sprintf("let %s make administrators of those in %s (changed: %s)", service, strings.Join(after, ", "), strings.Join(changed, ", "))
}

// askSignOn asks a second administrator. was is the mark of what is kept.
func (a *Appliance) askSignOn(who api.Who, service, was, text string, settings any, secret string) error {
	kept, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	return a.fourEyes(who.Person, store.Approval{Kind: approveSignOn, Name: service, Text: text,
		SignOn: &store.SignOnRequest{Service: service, Was: was, Settings: string(kept), Sealed: a.identity.SealRequest(secret)}})
}

// performSignOn does what was approved, if it still works and nobody has changed the
// service meanwhile: that would be undone without a word.
func (a *Appliance) performSignOn(ctx context.Context, actor string, r store.Approval) error {
	if now, err := a.identity.SignOnMark(r.SignOn.Service); err != nil {
		return err
	} else if now != r.SignOn.Was {
		return replication.Stopf("approval.overtaken", "look at the sign-in services, and ask for it anew", "that sign-in service was changed after that was asked for")
	}
	secret, err := a.identity.OpenRequest(r.SignOn.Sealed)
	if err != nil {
		return err
	}
	if r.SignOn.Service == serviceDirectory {
		var d api.Directory
		if err := json.Unmarshal([]byte(r.SignOn.Settings), &d); err != nil {
			return err
		}
		d.Password = secret
		return a.identity.SaveDirectory(ctx, actor, d)
	}
	var o api.OpenID
	if err := json.Unmarshal([]byte(r.SignOn.Settings), &o); err != nil {
		return err
	}
	o.Secret = secret
	return a.identity.SaveOpenID(ctx, actor, o)
}
