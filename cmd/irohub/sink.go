package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// A sink takes lines for standard output or standard error, and makes nobody wait: a goroutine
// of its own writes them. A line that finds no room, since what reads them is too slow or has
// stopped, is dropped and counted. All that a peer has a say in leaves the process through a
// sink, which makes it printable.
type sink struct {
	// Immutable.
	to     io.Writer
	limit  int                     // bytes that may wait; a line by itself has no limit
	width  int                     // bytes of a line, of which the rest is cut off; 0: no limit
	notice func(missed int) string // stands where lines were dropped; nil: nothing does

	more   chan struct{} // something has changed for the writing goroutine; capacity 1, never closed
	broken chan struct{} // closed by it when writing has failed
	done   chan struct{} // closed by it when it ends

	mu      sync.Mutex
	chunks  [][]byte // lines that wait, put together as they are to be written
	size    int      // bytes of these, and of the chunk that is being written
	waiting int      // lines likewise
	missed  int      // lines dropped since missed was last taken
	err     error    // of writing; there is no more of it then
	ended   bool     // no more lines come
}

// chunkSize is what is written in one call, unless a line is longer.
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
	// Ends when close is called and all is written, or when writing fails. Nothing but the
	// end of the process ends a write that nobody takes.
	go s.write()
	return s
}

// newLogSink is one for standard error.
func newLogSink(to io.Writer) *sink {
	return newSink(to, 1<<20, 8<<10, func(missed int) string {
		return fmt.Sprintf("irohub: %d lines are missing here: they came faster than they were read", missed)
	})
}

// put takes a line, without its end; false: it was dropped.
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

// hasRoom says whether a line of so many bytes would be taken, and else counts it as dropped: it
// need not be made then.
func (s *sink) hasRoom(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room(n)
}

// Write takes whole lines, as a log and fmt write them. It never fails.
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

// cut returns at most n bytes of a line, whole characters.
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
	default: // it will look anyway
	}
}

// write is the goroutine.
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

// wrote counts what was written of a chunk. Where lines were dropped, there is room now to say
// so, behind those that came before them.
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

// takeMissed returns how many lines were dropped since it was last called, and what writing
// has failed with.
func (s *sink) takeMissed() (missed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	missed, s.missed = s.missed, 0
	return missed, s.err
}

// close lets no more lines in, and waits until all are written, or writing fails, or ctx ends.
// What is not written then counts as dropped.
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
