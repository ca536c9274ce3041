package records

import "sync"

// A Queue holds received bytes that were not read yet. It stores them in chunks, so it uses
// only the memory it needs and none when empty. One goroutine fills the queue and one takes
// from it, under a lock. The filler does not hold the lock while it reads into its space.
type Queue struct {
	parts   []part
	head    int  // bytes already taken from the first part
	filling bool // the filler owns the rest of the last part
}

// A part is a chunk of which n bytes are filled.
type part struct {
	*Chunk
	n int
}

// A Chunk is the unit of memory of a Queue.
type Chunk [16 << 10]byte

// Chunks has unused chunks. Others who need such a buffer for a moment may use them too.
var Chunks = sync.Pool{New: func() any { return new(Chunk) }}

// spare is the free space in a chunk, in bytes, that is worth using before a new chunk.
const spare = 512

// Space returns room for at most n bytes. The filler owns it until it calls Filled.
func (q *Queue) Space(n int) []byte {
	last := len(q.parts) - 1
	if last < 0 || len(q.parts[last].Chunk)-q.parts[last].n < min(n, spare) {
		q.parts = append(q.parts, part{Chunk: Chunks.Get().(*Chunk)})
		last++
	}
	q.filling = true
	rest := q.parts[last].Chunk[q.parts[last].n:]
	return rest[:min(n, len(rest))]
}

// Filled adds the first n bytes of the space to the queue.
func (q *Queue) Filled(n int) {
	if last := len(q.parts) - 1; last >= 0 { // else it was dropped
		q.parts[last].n += n
	}
	q.filling = false
}

// Take moves bytes from the queue to p and returns how many.
func (q *Queue) Take(p []byte) (total int) {
	done := 0
	for i := range q.parts {
		part := &q.parts[i]
		n := copy(p[total:], part.Chunk[q.head:part.n])
		total += n
		q.head += n
		if q.head < part.n || q.filling && i == len(q.parts)-1 {
			break
		}
		Chunks.Put(part.Chunk)
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

// Drop empties the queue. The filler keeps the chunk that it is filling.
func (q *Queue) Drop() {
	for i, part := range q.parts {
		if !q.filling || i < len(q.parts)-1 {
			Chunks.Put(part.Chunk)
		}
	}
	q.parts, q.head = nil, 0
}
