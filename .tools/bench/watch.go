package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// limits is what a command was held up by: shares of its time, looked at in short
// stretches.
type limits struct {
	Processors float64 `json:"processors"` // they were busy
	Disk       float64 `json:"disk"`       // the disk did what it can, and the processors were not busy
	Neither    float64 `json:"neither"`
}

const (
	stretch  = 100 * time.Millisecond // the system counts ten to the stretch
	busyFrom = 0.8                    // of the processors
	fullFrom = 0.8                    // of what the disk does at most
)

// watch does a command and finds out what it was held up by.
func watch(d device, r rates, do func() error) (l limits, waiting, idle float64, err error) {
	first, err := processorTime()
	if err != nil {
		return l, 0, 0, err
	}
	disk, err := d.moved()
	if err != nil {
		return l, 0, 0, err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	look := time.NewTicker(stretch)
	defer look.Stop()
	stretches, last, at := 0.0, first, time.Now()
	for ended := false; !ended; {
		select {
		case err := <-done:
			if err != nil {
				return l, 0, 0, err
			}
			ended = true
		case <-look.C:
		}
		now, err := processorTime()
		if err != nil {
			return l, 0, 0, err
		}
		moves, err := d.moved()
		if err != nil {
			return l, 0, 0, err
		}
		took := time.Since(at).Seconds()
		if took < stretch.Seconds()/2 {
			continue // too short to tell
		}
		busy := now.since(last).busy()
		speed := moved{(moves.read - disk.read) / took, (moves.written - disk.written) / took}
		switch {
		case busy >= busyFrom:
			l.Processors++
		case d.known() && r.share(speed) >= fullFrom:
			l.Disk++
		default:
			l.Neither++
		}
		stretches++
		last, disk, at = now, moves, time.Now()
	}
	stretches = max(stretches, 1)
	l = limits{l.Processors / stretches, l.Disk / stretches, l.Neither / stretches}
	spent := last.since(first)
	return l, spent.waiting / spent.all, spent.idle / spent.all, nil
}

// processors is what the system has counted of all its processors since its start, in
// its own unit.
type processors struct{ all, idle, waiting float64 }

func processorTime() (p processors, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return p, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var name string
	var user, nice, system, irq, soft, steal float64
	if _, err := fmt.Sscan(line, &name, &user, &nice, &system, &p.idle, &p.waiting, &irq, &soft, &steal); err != nil {
		return p, fmt.Errorf("read /proc/stat: %w", err)
	}
	p.all = user + nice + system + p.idle + p.waiting + irq + soft + steal
	return p, nil
}

func (p processors) since(q processors) processors {
	return processors{p.all - q.all, p.idle - q.idle, p.waiting - q.waiting}
}

// busy is the share of the time in which they did something.
func (p processors) busy() float64 {
	if p.all == 0 {
		return 0
	}
	return 1 - (p.idle+p.waiting)/p.all
}
