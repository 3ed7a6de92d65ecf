package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"riparo/store"
)

// Token is an API token without its secret.
type Token struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Role     store.Role `json:"role"`
	Scope    Scope      `json:"scope"`
	By       string     `json:"by,omitempty" doc:"The person who made it. It may no more than that person may now, and nothing when their account is closed or removed."`
	Created  time.Time  `json:"created"`
	Expires  time.Time  `json:"expires,omitzero"`
	LastUsed time.Time  `json:"last_used,omitzero"`
}

// NewToken is a token just made, with its secret: it is not shown again.
type NewToken struct {
	Token
	Secret string `json:"secret"`
}

// TokenBody asks for a token.
type TokenBody struct {
	Name  string     `json:"name" minLength:"1" maxLength:"64"`
	Scope Scope      `json:"scope,omitempty" enum:"read,audit,operate,recover,administer" doc:"What it may do; this or role."`
	Role  store.Role `json:"role,omitempty" enum:"viewer,auditor,operator,recovery operator,administrator" doc:"The same by the name of the role."`
	Hours float64    `json:"hours,omitempty" minimum:"0" maximum:"87600" doc:"How long it is good for; 0: it does not expire."`
}

// SetupBody claims a fresh appliance.
type SetupBody struct {
	SetupToken string `json:"setup_token" minLength:"1" doc:"Printed by the daemon at its start, and in the file setup-token of its data folder."`
	Name       string `json:"name" minLength:"1" maxLength:"64" doc:"Of the administrator."`
	Password   string `json:"password" minLength:"12" maxLength:"1024"`
	Language   string `json:"language,omitempty" enum:"en,it"`
	TokenName  string `json:"token_name,omitempty" maxLength:"64" doc:"Also makes an administrator's API token of this name."`
}

// Claimed is the answer to a claim.
type Claimed struct {
	User  string    `json:"user"`
	Token *NewToken `json:"token,omitempty"`
}

type tokenInput struct{ Body TokenBody }
type setupInput struct{ Body SetupBody }

func (a *API) tokens() {
	const tag = "Access"
	add(a, operation{id: "setup", method: "POST", path: "/api/v1/setup", tag: tag, summary: "Claim a fresh appliance with its one-time setup token", status: http.StatusCreated, open: true}, a.claim)
	add(a, operation{id: "list-tokens", method: "GET", path: "/api/v1/tokens", tag: tag, summary: "All API tokens, without their secrets"},
		func(ctx context.Context, _ *none) (*body[[]Token], error) {
			tokens, err := a.Identity.Tokens()
			list := []Token{}
			for _, t := range tokens {
				list = append(list, tokenOf(t))
			}
			return answer(list, err)
		})
	add(a, operation{id: "create-token", method: "POST", path: "/api/v1/tokens", tag: tag, summary: "Make an API token; its secret is shown once", status: http.StatusCreated},
		func(ctx context.Context, in *tokenInput) (*body[NewToken], error) {
			role := in.Body.Role
			if in.Body.Scope != "" {
				var err error
				if role, err = in.Body.Scope.Role(); err != nil {
					return nil, err
				}
			}
			life := time.Duration(in.Body.Hours * float64(time.Hour))
			secret, t, err := a.Identity.CreateToken(cmp.Or(callerOf(ctx).Person, callerOf(ctx).Name), in.Body.Name, role, life)
			return answer(NewToken{Token: tokenOf(t), Secret: secret}, err)
		})
	add(a, operation{id: "revoke-token", method: "DELETE", path: "/api/v1/tokens/{id}", tag: tag, summary: "End an API token"},
		func(ctx context.Context, in *idInput) (*body[Done], error) {
			return answer(Done{true}, a.Identity.RevokeToken(callerOf(ctx).Name, in.ID))
		})
}

func tokenOf(t store.Token) Token {
	return Token{ID: t.ID, Name: t.Name, Role: t.Role, Scope: ScopeOf(t.Role), By: t.By, Created: t.Created, Expires: t.Expires, LastUsed: t.LastUsed}
}

func (a *API) claim(ctx context.Context, in *setupInput) (*body[Claimed], error) {
	b := in.Body
	user, err := a.Identity.Claim(ctx, b.SetupToken, b.Name, b.Password, b.Language, callerOf(ctx).Address)
	if err != nil {
		return nil, err
	}
	AuditOf(ctx).Actor = user.Name
	claimed := Claimed{User: user.Name}
	if b.TokenName != "" {
		secret, t, err := a.Identity.CreateToken(user.Name, b.TokenName, store.Administrator, 0)
		if err != nil {
			return nil, err
		}
		claimed.Token = &NewToken{Token: tokenOf(t), Secret: secret}
	}
	return answer(claimed, nil)
}
