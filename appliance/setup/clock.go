package setup

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"riparo/replication"
)

// clockTime bounds the question to a time server.
const clockTime = 3 * time.Second

// ntpEpoch is 1970 in seconds since 1900, where the time of NTP begins.
const ntpEpoch = 2208988800

// Skew asks a time server, HOST or HOST:PORT, how far its clock is ahead of ours
// (SNTP, RFC 4330). round is how long the answer took: the truth lies within half of
// it.
func Skew(ctx context.Context, server string) (skew, round time.Duration, err error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "123")
	}
	ctx, cancel := context.WithTimeout(ctx, clockTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", server)
	if err != nil {
		return 0, 0, noClock(server, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, 0, noClock(server, err)
	}
	question := make([]byte, 48)
	question[0] = 4<<3 | 3 // version 4, client
	// A number that only who saw the question can repeat.
	rand.Read(question[40:48])
	sent := time.Now()
	if _, err := conn.Write(question); err != nil {
		return 0, 0, noClock(server, err)
	}
	answer := make([]byte, 48)
	for {
		n, err := conn.Read(answer)
		came := time.Now()
		if err != nil {
			return 0, 0, noClock(server, err)
		}
		if n < 48 || string(answer[24:32]) != string(question[40:48]) {
			continue // not to us
		}
		if mode, stratum := answer[0]&7, answer[1]; mode != 4 || stratum == 0 || stratum > 15 || answer[0]>>6 == 3 {
			return 0, 0, noClock(server, errors.New("it does not know the time itself"))
		}
		received, replied := ntpTime(answer[32:40]), ntpTime(answer[40:48])
		// The middle of both ways, as in RFC 4330, section 5.
		skew = (received.Sub(sent) + replied.Sub(came)) / 2
		return skew, came.Sub(sent), nil
	}
}

func ntpTime(b []byte) time.Time {
	seconds, fraction := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return time.Unix(int64(seconds)-ntpEpoch, int64(fraction)*1e9>>32)
}

func noClock(server string, err error) error {
	return &replication.Problem{Code: "clock.silent", Cause: fmt.Sprintf("the time server %s does not answer: %v", server, err), Effect: "whether the clock is right is not known",
		Action: "give another time server, or let UDP port 123 through", Remedy: replication.Retry, Err: err}
}
