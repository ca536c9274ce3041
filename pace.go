package irohub

import "time"

// A pace is how fast a spoke may send, in two token buckets that each hold a second's
// worth. The reader alone touches it.
type pace struct {
	frames, bytes bucket
}

type bucket struct {
	rate float64 // tokens a second, and how many there can be; 0: no limit
	have float64 // negative: so many are owed
	at   time.Time
}

func newPace(frames, bytes int) pace {
	return pace{newBucket(frames), newBucket(bytes)}
}

func newBucket(rate int) bucket {
	r := float64(max(rate, 0))
	return bucket{rate: r, have: r}
}

// spend takes one frame of so many bytes, and returns how long to wait before the next.
func (p *pace) spend(bytes int) time.Duration {
	if p.frames.rate == 0 && p.bytes.rate == 0 {
		return 0
	}
	now := time.Now()
	return max(p.frames.spend(1, now), p.bytes.spend(float64(bytes), now))
}

func (b *bucket) spend(n float64, now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	if !b.at.IsZero() {
		b.have = min(b.rate, b.have+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.have -= n; b.have >= 0 {
		return 0
	}
	return time.Duration(-b.have / b.rate * float64(time.Second))
}

// slowDown waits where the spoke has sent more than it may. What has come so far goes to
// the router before. Once the connection has ended, there is little more to read, and the
// sooner that is done, the sooner is the spoke known to be gone.
func (m *member) slowDown(bytes int) error {
	wait := m.pace.spend(bytes)
	if wait == 0 {
		return nil
	}
	if err := m.work.flush(); err != nil {
		return err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-m.peer.over:
		return nil
	case <-m.link.ctx.Done():
		return m.link.err()
	}
}
