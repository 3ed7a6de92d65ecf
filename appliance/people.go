package appliance

import (
	"context"
	"fmt"
	"strings"

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
	r := store.Approval{Kind: approveUser, Name: user.Name, Text: text, User: &store.UserRequest{Kind: c.Kind, Role: c.Role}}
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

// SaveSecondRule says which roles have to have a second factor. To let a role off takes
// four eyes.
func (a *Appliance) SaveSecondRule(_ context.Context, who api.Who, roles []store.Role) error {
	before, err := a.identity.SecondRule()
	if err != nil {
		return err
	}
	wanted := map[store.Role]bool{}
	for _, role := range roles {
		wanted[role] = true
	}
	for _, role := range before {
		if wanted[role] {
			continue
		}
		err := a.fourEyes(who.Person, store.Approval{Kind: approveSecond, Name: string(role), Second: &store.SecondRule{Roles: roles},
			Text: fmt.Sprintf("let the role %s sign in without a second factor", role)})
		if err != nil {
			return err
		}
		break // the request holds the whole rule
	}
	return a.identity.SaveSecondRule(who.Name, roles)
}

// performUser does what was approved about an account, if it is still what it was about.
func (a *Appliance) performUser(ctx context.Context, actor string, r store.Approval) error {
	c := api.UserChange{Kind: r.User.Kind, Role: r.User.Role}
	if c.Kind == api.UserPassword {
		return a.identity.ResetToHash(actor, r.Name, r.User.PasswordHash)
	}
	if _, err := a.identity.Possible(r.Name, c); err != nil {
		return err
	}
	return a.identity.Change(ctx, actor, r.Name, c)
}
