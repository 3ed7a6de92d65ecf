package view

import "time"

// Policies is the page of replication policies.
type Policies struct {
	Now       time.Time
	Approvals []ApprovalRow
	Rows      []PolicyCard
	CanAdd    bool
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
	Lock      string
	Limit     string
	Used      string
	Problem   *Message
}

// ApprovalRow is something that one administrator asked for and another decides about.
type ApprovalRow struct {
	ID, Text, By    string
	Time            time.Time
	State           Badge
	Decided, Result string
	Approve, Refuse string // where the forms go; empty: not this visitor
}
