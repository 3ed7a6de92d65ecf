package fleece

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"riparo/hypervisor/kvm/qga"
)

const (
	// agentAnswer is how long an agent may take to answer at all. A healthy one
	// takes milliseconds; an absent one never answers, and every capture would wait.
	agentAnswer = 3 * time.Second
	// thawLimit is how long is tried to thaw a guest. Every second counts then.
	thawLimit = 20 * time.Second
	// markLimit is how long the note of a freeze may take, which may lie on another host.
	markLimit = 5 * time.Second
	// DefaultFreezeLimit is used when a request names none.
	DefaultFreezeLimit = 10 * time.Second
)

// freeze is what became of the wish for application consistency.
type freeze struct {
	consistent  bool
	fileSystems int
	stood       time.Duration // how long the guest stood still
	warnings    []string
}

func (f *freeze) warn(format string, values ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf(format, values...))
}

// frozen runs instant with the guest's file systems frozen, or, when that cannot be
// had, without. Whatever happens, the guest is thawed before it returns; an error of
// its own means that it could not be.
func (m *Machine) frozen(ctx context.Context, limit time.Duration, instant func() error) (*freeze, error) {
	f := &freeze{}
	if m.Agent == nil {
		f.warn("no application consistency: %s has no guest agent channel", m.Name)
		return f, instant()
	}
	asking, cancel := context.WithTimeoutCause(ctx, agentAnswer, fmt.Errorf("no answer within %s", agentAnswer))
	agent, release, err := m.Agent(asking)
	cancel()
	if err != nil {
		f.warn("no application consistency: %v", err)
		return f, instant()
	}
	if err := m.mark(ctx, true); err != nil {
		release()
		f.warn("no application consistency: the freeze cannot be noted down: %v", err)
		return f, instant()
	}
	began := time.Now()
	limited, cancel := context.WithDeadlineCause(ctx, began.Add(limit), fmt.Errorf("the freeze limit of %s was reached", limit))
	defer cancel()
	n, err := qga.Freeze(limited, agent)
	if err != nil || n == 0 {
		release() // an unanswered command makes the conversation useless
		_, refused := errors.AsType[*qga.Error](err)
		if err == nil {
			err, refused = errors.New("it froze no file system"), true
		}
		f.warn("no application consistency: %v", err)
		// The freeze may have happened in part, or happen yet.
		if err := m.Thaw(ctx); err != nil {
			return f, err
		}
		if !refused {
			f.stood = time.Since(began)
		}
		return f, instant()
	}
	f.fileSystems = n

	// The watchdog thaws at the limit, even while QEMU is busy with the instant.
	var watchdog sync.WaitGroup
	stop, early := make(chan struct{}), false
	watchdog.Go(func() {
		select {
		case <-stop:
		case <-limited.Done():
			early = true
			thawing, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentAnswer)
			defer cancel()
			qga.Thaw(thawing, agent) // repeated below with more patience
		}
	})
	failed := instant()
	close(stop)
	watchdog.Wait()

	if !early {
		checking, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentAnswer)
		if still, err := qga.Frozen(checking, agent); err != nil {
			f.warn("no application consistency: after the instant the guest agent did not say whether the freeze had held: %v", err)
		} else if !still {
			f.warn("no application consistency: the guest ended the freeze by itself before the instant was over")
		} else {
			f.consistent = true
		}
		if err := qga.Thaw(checking, agent); err == nil {
			cancel()
			release()
			f.stood = time.Since(began)
			return f, errors.Join(failed, m.mark(ctx, false))
		}
		cancel()
	} else {
		f.warn("no application consistency: the freeze limit of %s was reached before the instant was taken", limit)
	}
	release()
	err = m.Thaw(ctx)
	f.stood = time.Since(began)
	return f, errors.Join(failed, err)
}

// Thaw thaws the guest, in conversations of its own, until the agent says that
// nothing is frozen. It goes on after ctx was canceled.
func (m *Machine) Thaw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawLimit)
	defer cancel()
	var last error
	err := poll(ctx, func() (bool, error) {
		last = m.thawOnce(ctx)
		return last == nil, nil
	})
	if err != nil {
		return m.thawProblem(errors.Join(err, last))
	}
	return m.mark(ctx, false)
}

// TryThaw tries once to thaw the guest: for one that may have been frozen by a process
// that is gone, and for who can try again later.
func (m *Machine) TryThaw(ctx context.Context) error {
	if err := m.thawOnce(ctx); err != nil {
		return m.thawProblem(err)
	}
	return m.mark(ctx, false)
}

// AgentAnswers reports whether there is an agent that says anything at all.
func (m *Machine) AgentAnswers(ctx context.Context) bool {
	if m.Agent == nil {
		return false
	}
	asking, cancel := context.WithTimeout(ctx, agentAnswer)
	defer cancel()
	_, release, err := m.Agent(asking)
	if err != nil {
		return false
	}
	release()
	return true
}

// thawOnce thaws the guest in one conversation. The agent says itself that nothing is
// frozen any more: it answers in the order of the commands, so that a freeze which was
// still on its way has landed before.
func (m *Machine) thawOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, agentAnswer, fmt.Errorf("no answer within %s", agentAnswer))
	defer cancel()
	agent, release, err := m.Agent(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := qga.Thaw(ctx, agent); err != nil {
		return err
	}
	still, err := qga.Frozen(ctx, agent)
	if err == nil && still {
		err = errors.New("it is frozen still")
	}
	return err
}

// mark notes that a freeze may be in force, or that none is.
func (m *Machine) mark(ctx context.Context, freezing bool) error {
	if m.Freezing == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markLimit)
	defer cancel()
	return m.Freezing(ctx, freezing)
}
