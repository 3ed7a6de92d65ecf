package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qga"
	"riparo/hypervisor/kvm/qmp"
)

// monitor gives commands to the QEMU of a domain, through libvirt.
type monitor struct {
	host *Host
	dom  rpc.Domain
}

var _ fleece.Monitor = monitor{}

// Execute runs one command. The error wraps fleece.ErrEnded when the domain is off.
func (m monitor) Execute(ctx context.Context, command string, arguments, result any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("encode the arguments of %s: %w", command, err)
	}
	answer, err := call(ctx, m.host, func(l *rpc.Libvirt) (string, error) { return l.QEMUDomainMonitorCommand(m.dom, string(line), 0) })
	if hasCode(err, rpc.ErrOperationInvalid) || hasCode(err, rpc.ErrNoDomain) {
		return fmt.Errorf("%s: %w", m.dom.Name, fleece.ErrEnded)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *qmp.Error      `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &reply); err != nil {
		return fmt.Errorf("%s: unreadable answer: %w", command, err)
	}
	if reply.Error != nil {
		reply.Error.Command = command
		return reply.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Return, result); err != nil {
		return fmt.Errorf("decode the reply to %s: %w", command, err)
	}
	return nil
}

// agent speaks to the guest agent of a domain, through libvirt, which synchronizes
// before each command.
type agent struct {
	host *Host
	dom  rpc.Domain
}

var _ qga.Executor = agent{}

func (a agent) Execute(ctx context.Context, command string, arguments, result any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("encode the arguments of %s: %w", command, err)
	}
	// libvirt waits in whole seconds, at least one.
	seconds := int32(30)
	if deadline, ok := ctx.Deadline(); ok {
		seconds = int32(max(1, time.Until(deadline)/time.Second))
	}
	answer, err := call(ctx, a.host, func(l *rpc.Libvirt) (string, error) {
		answer, err := l.QEMUDomainAgentCommand(a.dom, string(line), seconds, 0)
		if err == nil && len(answer) == 0 {
			err = errors.New("no answer")
		}
		if err != nil {
			return "", err
		}
		return answer[0], nil
	})
	if e, ok := errors.AsType[rpc.Error](err); ok {
		if e.Code == uint32(rpc.ErrInternalError) { // the agent answered, with an error
			return &qga.Error{Command: command, Desc: e.Message}
		}
	}
	if err != nil {
		return fmt.Errorf("guest agent: %s: %w", command, err)
	}
	return qga.Decode(command, []byte(answer), result)
}
