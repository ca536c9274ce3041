package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// A sink is a queue of lines for standard output or standard error. Adding a line never waits,
// because the sink's own goroutine writes the lines. If their reader is too slow or has stopped,
// the queue fills up. The sink then drops further lines and counts them. It makes lines printable,
// so all text that comes from peers goes through a sink.
type sink struct {
	// Immutable.
	to     io.Writer
	limit  int                     // maximal bytes in the queue; an empty queue takes a line of any length
	width  int                     // maximal bytes of a line, which is cut off there; 0: no limit
	notice func(missed int) string // returns a line to write in place of dropped ones; nil: no such line

	more   chan struct{} // wakes the writing goroutine; capacity 1, so signals merge; never closed
	broken chan struct{} // closed by the writing goroutine when writing has failed
	done   chan struct{} // closed by the writing goroutine when it ends

	mu      sync.Mutex
	chunks  [][]byte // the queue; each chunk has whole lines and is written in one call
	size    int      // bytes in the queue and in the chunk that is being written
	waiting int      // lines in the queue and in the chunk that is being written
	missed  int      // lines dropped since the last takeMissed or notice
	err     error    // the error of writing; nothing is written after it
	ended   bool     // close was called; no more lines are added
}

// chunkSize is the maximal size of a chunk in bytes, unless a single line is longer.
const chunkSize = 16 << 10

func newSink(to io.Writer, limit, width int, notice func(missed int) string) *sink {
	s := &sink{
		to:     to,
		limit:  limit,
		width:  width,
		notice: notice,
		more:   make(chan struct{}, 1),
		broken: make(chan struct{}),
		done:   make(chan struct{}),
	}
	// It ends after close, once everything is written, or when writing fails. A write that blocks
	// ends only with the process.
	go s.write()
	return s
}

// newLogSink returns a sink for standard error.
func newLogSink(to io.Writer) *sink {
	return newSink(to, 1<<20, 8<<10, func(missed int) string {
		return fmt.Sprintf("irohub: %d lines are missing here: they came faster than standard error was read", missed)
	})
}

// put adds a line, which has no line break. It returns false if the line was dropped.
func (s *sink) put(line []byte) bool {
	line = s.fit(line)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room(len(line)) {
		return false
	}
	s.add(line)
	return true
}

// hasRoom reports whether there is room for a line of n bytes. If not, it counts the line as
// dropped. So the caller need not encode a line that would be dropped.
func (s *sink) hasRoom(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room(n)
}

// Write adds one or more whole lines. It never fails.
func (s *sink) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		s.put(bytes.TrimSuffix(line, []byte("\n")))
	}
	return len(p), nil
}

// fit makes a line printable and short enough.
func (s *sink) fit(line []byte) []byte {
	if s.width == 0 {
		return printable(line)
	}
	whole := len(line)
	line = printable(cut(line, s.width))
	if whole > s.width || len(line) > s.width {
		line = fmt.Appendf(nil, "%s… (%d bytes)", cut(line, s.width), whole)
	}
	return line
}

// cut shortens a line to at most n bytes, without splitting a character.
func cut(line []byte, n int) []byte {
	if len(line) <= n {
		return line
	}
	for n > 0 && !utf8.RuneStart(line[n]) {
		n--
	}
	return line[:n]
}

// drop counts a line as dropped.
func (s *sink) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed++
}

func (s *sink) room(n int) bool {
	if s.ended || s.err != nil || s.size > 0 && s.size+n+1 > s.limit {
		s.missed++
		return false
	}
	return true
}

func (s *sink) add(line []byte) {
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last])+len(line)+1 > chunkSize {
		s.chunks = append(s.chunks, nil)
		last++
	}
	s.chunks[last] = append(append(s.chunks[last], line...), '\n')
	s.size += len(line) + 1
	s.waiting++
	s.wake()
}

func (s *sink) wake() {
	select {
	case s.more <- struct{}{}:
	default: // a signal is already waiting
	}
}

// write is the sink's goroutine.
func (s *sink) write() {
	defer close(s.done)
	for {
		chunk, ended := s.next()
		switch {
		case chunk != nil:
			n, err := s.to.Write(chunk)
			s.wrote(chunk, n, err)
			if err != nil {
				return
			}
		case ended:
			return
		default:
			<-s.more
		}
	}
}

func (s *sink) next() (chunk []byte, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.chunks) == 0 {
		s.chunks = nil
		return nil, s.ended
	}
	chunk, s.chunks[0] = s.chunks[0], nil
	s.chunks = s.chunks[1:]
	return chunk, false
}

// wrote updates the counts after a chunk was written, as a whole or up to an error. If lines were
// dropped, it adds the notice, after the lines that came before them.
func (s *sink) wrote(chunk []byte, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size -= len(chunk)
	s.waiting -= bytes.Count(chunk[:n], []byte("\n"))
	switch {
	case err != nil:
		s.err = err
		s.missed += s.waiting
		s.chunks, s.size, s.waiting = nil, 0, 0
		close(s.broken)
	case s.missed > 0 && s.notice != nil:
		missed := s.missed
		s.missed = 0
		s.add([]byte(s.notice(missed)))
	}
}

// takeMissed returns how many lines were dropped since the last call, and the error of writing.
func (s *sink) takeMissed() (missed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	missed, s.missed = s.missed, 0
	return missed, s.err
}

// close stops adding lines. It waits until all are written, writing fails, or ctx ends. Lines that
// are not written by then count as dropped.
func (s *sink) close(ctx context.Context) {
	s.mu.Lock()
	s.ended = true
	s.wake()
	s.mu.Unlock()
	select {
	case <-s.done:
		return
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed += s.waiting
	s.chunks, s.waiting = nil, 0
}
