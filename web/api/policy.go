package api

import (
	"context"

	"riparo/replication"
	"riparo/store"
)

type policyInput struct {
	Name string `path:"name"`
	Body replication.Policy
}

func (a *API) policies() {
	const tag = "Policies"
	add(a, operation{id: "list-policies", method: "GET", path: "/api/v1/policies", tag: tag, summary: "All replication policies"}, a.listPolicies)
	add(a, operation{id: "get-policy", method: "GET", path: "/api/v1/policies/{name}", tag: tag, summary: "One replication policy"},
		func(ctx context.Context, in *nameInput) (*body[replication.Policy], error) {
			var p store.Policy
			err := a.Store.View(func(tx *store.Tx) (err error) {
				p, err = tx.Policies().Get(in.Name)
				return err
			})
			return answer(p.Policy, err)
		})
	add(a, operation{id: "save-policy", method: "PUT", path: "/api/v1/policies/{name}", tag: tag, summary: "Make or change a replication policy"},
		func(ctx context.Context, in *policyInput) (*body[replication.Policy], error) {
			p := in.Body
			if p.Name != "" && p.Name != in.Name {
				return nil, refused("policy.name", "the policy is called "+p.Name+" inside and "+in.Name+" in the address", "use one name")
			}
			p.Name = in.Name
			if err := p.Check(); err != nil {
				return nil, refused("policy.invalid", err.Error(), "change it and send it again")
			}
			return answer(p, a.Appliance.SavePolicy(ctx, whoOf(ctx), p))
		})
}

func (a *API) listPolicies(ctx context.Context, _ *none) (*body[[]replication.Policy], error) {
	list := []replication.Policy{}
	err := a.Store.View(func(tx *store.Tx) error {
		for p, err := range tx.Policies().All() {
			if err != nil {
				return err
			}
			list = append(list, p.Policy)
		}
		return nil
	})
	return answer(list, err)
}
