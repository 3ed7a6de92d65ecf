package protection

// place is one among those of the machines that replicate at once. It is used by one
// goroutine at a time.
type place struct {
	p        *Protector
	in       chan struct{} // slots, or limited once it was left
	compares bool          // it has one of comparing too
}

// leave gives the place to others while the policy's rate makes its cycle wait. Of cycles
// that read at full speed where they find nothing to send only as many leave as there are
// places: the others stay, and so does who finds no room among those that wait.
func (l *place) leave(reads bool) {
	if l.in == l.p.limited || reads && !takes(l.p.comparing) {
		return
	}
	if !takes(l.p.limited) {
		if reads {
			<-l.p.comparing
		}
		return
	}
	<-l.in
	l.in, l.compares = l.p.limited, reads
}

// end is for who has come to the end of the cycle.
func (l *place) end() {
	if l.compares {
		<-l.p.comparing
	}
	<-l.in
}

// takes takes a token, if there is room for one.
func takes(of chan struct{}) bool {
	select {
	case of <- struct{}{}:
		return true
	default:
		return false
	}
}
