package appliance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Kinds of requests about accounts. Two administrators watch over each other only when
// neither can make the other's account their own, or a third one that is theirs.
const (
	approveUser   = "change-user"
	approveSecond = "ease-second-factor"
)

// AddUser makes an account. While there are two administrators nobody makes a third one
// alone: it is made with another role first.
func (a *Appliance) AddUser(ctx context.Context, who api.Who, name, password string, role store.Role) error {
	if role == store.Administrator {
		n := 0
		if err := a.store.View(func(tx *store.Tx) (err error) { n, err = administrators(tx); return err }); err != nil {
			return err
		}
		if n >= 2 {
			return &replication.Problem{Code: "user.promote", Cause: "one administrator alone does not make another one", Effect: "nothing was done",
				Action: "add the account with another role and make it an administrator afterwards: a second administrator approves that", Remedy: replication.Stop}
		}
	}
	return a.identity.AddUser(ctx, who.Name, name, password, role)
}

// ChangeUser changes an account of somebody else. What touches an administrator, and
// taking somebody's second factor, takes four eyes.
func (a *Appliance) ChangeUser(ctx context.Context, who api.Who, name string, c api.UserChange) error {
	user, err := a.identity.Possible(name, c)
	if err != nil {
		return err
	}
	if strings.EqualFold(user.Name, who.Person) {
		return &replication.Problem{Code: "user.own", Cause: "this is your own account", Effect: "nothing was done", Action: "ask another administrator, or see Account for what you can change yourself", Remedy: replication.Stop}
	}
	text := watched(user, c)
	if text == "" {
		return a.identity.Change(ctx, who.Name, user.Name, c)
	}
	if gives(c) {
		whose, err := a.whoseHands(user)
		if err != nil {
			return err
		}
		text += whose
	}
	r := store.Approval{Kind: approveUser, Name: user.Name, Text: text, User: &store.UserRequest{Kind: c.Kind, Role: c.Role, Was: doors(user)}}
	if c.Kind == api.UserPassword {
		if r.User.PasswordHash, err = a.identity.HashPassword(ctx, user.Name, c.Password); err != nil {
			return err
		}
	}
	if err := a.fourEyes(who.Person, r); err != nil {
		return err
	}
	return a.identity.Change(ctx, who.Name, user.Name, c)
}

// watched says what is asked for, when it takes four eyes.
func watched(u store.User, c api.UserChange) string {
	if u.Role != store.Administrator {
		switch {
		case c.Kind == api.UserRole && c.Role == store.Administrator:
			return fmt.Sprintf("make %s an administrator", u.Name)
		case c.Kind == api.UserSecond && (u.Second != nil || len(u.Passkeys) > 0):
			return fmt.Sprintf("take the second factor from %s", u.Name)
		}
		return ""
	}
	switch c.Kind {
	case api.UserRole:
		if c.Role != u.Role {
			return fmt.Sprintf("make the administrator %s %s", u.Name, c.Role)
		}
	case api.UserDisable:
		return fmt.Sprintf("close the account of the administrator %s", u.Name)
	case api.UserEnable:
		return fmt.Sprintf("open the account of the administrator %s again", u.Name)
	case api.UserPassword:
		return fmt.Sprintf("reset the password of the administrator %s", u.Name)
	case api.UserSecond:
		return fmt.Sprintf("take the second factor from %s", u.Name)
	case api.UserRemove:
		return fmt.Sprintf("remove the administrator %s", u.Name)
	}
	return ""
}

// gives tells the changes after which whoever holds the account can do more.
func gives(c api.UserChange) bool {
	return c.Kind == api.UserRole && c.Role == store.Administrator || c.Kind == api.UserEnable || c.Kind == api.UserSecond
}

// doors is another value as soon as something else opens an account: another password,
// passkey or secret of codes, or when it is another account of that name. Codes that were
// used change nothing.
func doors(u store.User) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %q %q %q", u.Created.UnixNano(), u.Source, u.Subject, u.PasswordHash)
	if u.Second != nil {
		fmt.Fprintf(h, " codes %x", u.Second.Secret)
	}
	for _, p := range u.Passkeys {
		fmt.Fprintf(h, " passkey %x", p.ID)
	}
	return hex.EncodeToString(h.Sum(nil))
}

const (
	// resetTold is for how long a reset is a reason to ask whose an account is.
	resetTold = 30 * 24 * time.Hour
	// resetSought bounds how many warnings are looked through for one.
	resetSought = 1000
)

// whoseHands says what lets one doubt that an account is in its person's hands: somebody
// else has set its password. It is empty when nothing does.
func (a *Appliance) whoseHands(u store.User) (text string, err error) {
	if u.MustChange {
		text = " (no own password yet)"
	}
	err = a.store.View(func(tx *store.Tx) error {
		page, err := tx.EventsBy(store.SeverityWarning).Page("", resetSought, true)
		for _, e := range page {
			if e.Code == "user.reset" && strings.EqualFold(e.Args["user"], u.Name) && time.Since(e.Time) < resetTold {
				text = fmt.Sprintf(" (password reset on %s by %s)", e.Time.UTC().Format("2006-01-02 15:04 UTC"), e.Args["actor"])
				return nil
			}
		}
		return err
	})
	return text, err
}

// SaveSecondRule says which roles have to have a second factor. To let a role off takes
// four eyes.
func (a *Appliance) SaveSecondRule(_ context.Context, who api.Who, roles []store.Role) error {
	before, err := a.identity.SecondRule()
	if err != nil {
		return err
	}
	var off []string
	for _, role := range before {
		if !slices.Contains(roles, role) {
			off = append(off, string(role))
		}
	}
	if len(off) > 0 {
		text := fmt.Sprintf("let the role %s sign in without a second factor", off[0])
		if len(off) > 1 {
			text = fmt.Sprintf("let the roles %s sign in without a second factor", strings.Join(off, ", "))
		}
		if err := a.fourEyes(who.Person, store.Approval{Kind: approveSecond, Name: strings.Join(off, ", "), Second: &store.SecondRule{Roles: roles}, SecondWas: &store.SecondRule{Roles: before},
			Text: text}); err != nil {
			return err
		}
	}
	return a.identity.SaveSecondRule(who.Name, roles)
}

// performSecond saves a rule that was approved, unless it became another one meanwhile:
// a role that was added since would be let off without a word.
func (a *Appliance) performSecond(actor string, r store.Approval) error {
	now, err := a.identity.SecondRule()
	if err != nil {
		return err
	}
	if r.SecondWas == nil || !slices.Equal(now, r.SecondWas.Roles) {
		return replication.Stopf("approval.overtaken", "look at the rule, and ask for it anew", "the rule of the second factor was changed after that was asked for")
	}
	return a.identity.SaveSecondRule(actor, r.Second.Roles)
}

// performUser does what was approved about an account, if it is still what it was about.
// What takes rights away is done whatever became of the account: nobody gets out of being
// closed by a new password.
func (a *Appliance) performUser(ctx context.Context, actor string, r store.Approval) error {
	c := api.UserChange{Kind: r.User.Kind, Role: r.User.Role}
	if c.Kind == api.UserPassword {
		return a.identity.ResetToHash(actor, r.Name, r.User.PasswordHash)
	}
	user, err := a.identity.Possible(r.Name, c)
	if err != nil {
		return err
	}
	if gives(c) && doors(user) != r.User.Was {
		return replication.Stopf("approval.overtaken", "make sure whose account it is, and ask for it anew", "the password, the passkeys or the one-time codes of %s were changed after that was asked for", user.Name)
	}
	return a.identity.Change(ctx, actor, r.Name, c)
}
