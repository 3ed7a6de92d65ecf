package fleece

import (
	"context"
	"sync"
	"sync/atomic"

	"riparo/replication/nbd"
)

// witness tells whether the filter of a disk still keeps everything that the guest
// overwrites. When it cannot, QEMU lets the guest go on, and what is read of the
// instant from then on may be newer. Nothing in the data says so; but a
// snapshot-access node of the filter refuses every read from that moment. So a read
// of the instant counts only when a read of the witness that began after it
// succeeded.
//
// Only one sector is read, and never twice at the same time: in QEMU before 9.1 two
// requests for the same place of such a node end in an assertion, and with it the
// guest.
type witness struct {
	client *nbd.Client

	asked atomic.Int64 // how many questions have begun

	mu       sync.Mutex // held while a question is under way; guards what follows
	answered int64      // number of the last question that was answered
	broken   error      // final
}

func dialWitness(ctx context.Context, m *Machine, key string) (*witness, error) {
	client, err := nbd.DialAddress(ctx, nbd.Address{Network: "unix", Address: m.Socket, Export: witnessName(key)}, nbd.Options{Dial: m.Dial})
	if err != nil {
		return nil, err
	}
	return &witness{client: client}, nil
}

// confirm asks the witness. Callers that arrive while a question is under way share
// the next one.
func (w *witness) confirm() error {
	arrival := w.asked.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	if w.answered > arrival {
		return nil // a question that began after this caller arrived
	}
	number := w.asked.Add(1)
	var sector [512]byte
	if _, err := w.client.ReadAt(sector[:], 0); err != nil {
		w.broken = err
		return err
	}
	w.answered = number
	return nil
}
