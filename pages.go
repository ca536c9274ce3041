package irohub

// A query asks the router for a page of a list. Pages are taken from the end of the list
// to its beginning: what leaves the list is replaced by its last item, which has been
// seen by then, so that what stays throughout is found, and at worst twice.
type query[T any] struct {
	below int // of the items before this place; negative: all
	reply chan page[T]
}

type page[T any] struct {
	items []T
	below int // for the next query; 0: this was the last page
}

// pageSize is how many items the router looks at for one query, so that a long list
// delays nobody.
const pageSize = 1024

// answer makes a page of list.
func answer[T, E any](q query[T], list []E, item func(E) T) {
	high := len(list)
	if q.below >= 0 {
		high = min(high, q.below)
	}
	low := max(0, high-pageSize)
	p := page[T]{items: make([]T, 0, high-low), below: low}
	for _, e := range list[low:high] {
		p.items = append(p.items, item(e))
	}
	q.reply <- p // has room
}

// pages asks for one page after the other, and yields their items. false: the router ended
// meanwhile.
func pages[T any](in *inbox, to chan<- query[T], yield func(T)) bool {
	q := query[T]{-1, make(chan page[T], 1)}
	for q.below != 0 {
		select {
		case to <- q:
		case <-in.done:
			return false
		}
		p := <-q.reply
		for _, item := range p.items {
			yield(item)
		}
		q.below = p.below
	}
	return true
}

// A topicCount is an item of Topics.
type topicCount struct {
	name string
	subs int
}
