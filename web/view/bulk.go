package view

// Bulk is a verb on several machines: before it is done, and what came of it.
type Bulk struct {
	Verb, Name, Icon, Lead, Submit string
	Done                           bool
	Count                          int // of those on which it can be done, or was
	Rows                           []BulkRow
}

// BulkRow is one of them.
type BulkRow struct {
	ID, Name, Href string
	State          Badge
	Text           string // why not
	Job            string // where it can be followed
	Can            bool
}
