package vault

// cursor reads a section from one entry on.
type cursor struct {
	section *section
	next    int64 // entry
	end     int64
	buffer  []byte
	first   int64 // page of the buffer
	current entry
	err     error
}

// cursorPages are read at once.
const cursorPages = 16

func (s *section) cursor(from, to int64) *cursor { return &cursor{section: s, next: from, end: to} }

// advance moves to the next entry and reports whether there is one.
func (c *cursor) advance() bool {
	if c.err != nil || c.next >= c.end {
		return false
	}
	page := c.next / pageEntries
	if len(c.buffer) == 0 || page >= c.first+int64(len(c.buffer)/pageSize) {
		want := min(cursorPages, (c.end-1)/pageEntries-page+1) * pageSize
		if c.buffer == nil {
			c.buffer = make([]byte, want) // it gets no longer
		}
		c.first = page
		c.buffer = c.buffer[:want]
		if c.err = c.section.read(c.buffer, page); c.err != nil {
			return false
		}
	}
	at := (page-c.first)*pageSize + c.next%pageEntries*entrySize
	c.current = parseEntry(c.buffer[at:])
	if err := c.current.check(); err != nil {
		c.err = &mapError{mapName(c.section.file.number), err}
		return false
	}
	c.next++
	return true
}
