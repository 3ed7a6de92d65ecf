package view

// Policies is the page of replication policies.
type Policies struct {
	Rows   []PolicyCard
	CanAdd bool
}

// PolicyCard is a policy with those who follow it.
type PolicyCard struct {
	Name  string
	Facts []Fact
	Used  string
	Edit  *Action
}

// PolicyForm makes or changes a policy.
type PolicyForm struct {
	New       bool
	Name      string
	Copy      string
	App       string
	Freeze    string
	Threshold string
	Retention string
	Limit     string
	Used      string
	Problem   *Message
}
