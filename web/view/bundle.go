package view

// Bundle is what a support bundle would have.
type Bundle struct {
	Parts []BundlePart
	Total string
}

// BundlePart is a file of it.
type BundlePart struct{ Name, About, Size string }
