package view

// Setup is the page that claims a fresh appliance.
type Setup struct {
	Token, Name string // kept when something was not right
	Languages   []Choice
	Problem     *Message
	MinLength   string
	// RestoreProblem and Restored are what became of a restore.
	RestoreProblem *Message
	Restored       string
}

// Login is the page to sign in.
type Login struct {
	Name    string
	Next    string
	Problem *Message
	Service string // the name of the sign-in service, if there is one
}
