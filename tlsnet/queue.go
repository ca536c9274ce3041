package tlsnet

import "sync"

// A queue holds bytes that have come and were not read yet, in chunks, so that it has as
// much memory as it needs, and none when it is empty. One goroutine fills it and one takes
// from it, under a lock that the filler does not hold while it reads into its space.
type queue struct {
	parts   []part
	head    int  // bytes taken of the first part
	filling bool // the rest of the last part is the filler's
}

// A part is a chunk of which n bytes are filled.
type part struct {
	*chunk
	n int
}

type chunk [16 << 10]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// spare is the rest of a chunk for which another is not begun.
const spare = 512

// space returns room for up to n bytes, which the filler has until it calls filled.
func (q *queue) space(n int) []byte {
	last := len(q.parts) - 1
	if last < 0 || len(q.parts[last].chunk)-q.parts[last].n < min(n, spare) {
		q.parts = append(q.parts, part{chunk: chunks.Get().(*chunk)})
		last++
	}
	q.filling = true
	rest := q.parts[last].chunk[q.parts[last].n:]
	return rest[:min(n, len(rest))]
}

// filled says that so many bytes of the space are there.
func (q *queue) filled(n int) {
	if last := len(q.parts) - 1; last >= 0 { // else it was dropped
		q.parts[last].n += n
	}
	q.filling = false
}

// take moves bytes to p.
func (q *queue) take(p []byte) (total int) {
	done := 0
	for i := range q.parts {
		part := &q.parts[i]
		n := copy(p[total:], part.chunk[q.head:part.n])
		total += n
		q.head += n
		if q.head < part.n || q.filling && i == len(q.parts)-1 {
			break
		}
		chunks.Put(part.chunk)
		q.head = 0
		done++
	}
	if done > 0 {
		n := copy(q.parts, q.parts[done:])
		clear(q.parts[n:])
		q.parts = q.parts[:n]
	}
	return total
}

// drop empties the queue. A chunk that is being filled is left to the filler.
func (q *queue) drop() {
	for i, part := range q.parts {
		if !q.filling || i < len(q.parts)-1 {
			chunks.Put(part.chunk)
		}
	}
	q.parts, q.head = nil, 0
}
