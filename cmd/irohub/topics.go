package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"irohub"
)

// checkTopic checks a topic before anything is started. The rules are those of docs/protocol.md.
// The library has no exported check that needs no hub; a fuzz test compares the two.
func checkTopic(topic string) error {
	const most = 1024
	switch {
	case topic == "":
		return usagef("a TOPIC is empty")
	case len(topic) > most:
		return usagef("TOPIC has %d bytes, and the limit is %d: %.40q…", len(topic), most, topic)
	case !utf8.ValidString(topic):
		return usagef("TOPIC is not UTF-8: %q", topic)
	case strings.ContainsFunc(topic, unicode.IsControl):
		return usagef("TOPIC has a control character: %q", topic)
	case strings.HasPrefix(topic, "__"):
		return usagef("TOPIC begins with __, which is reserved for the protocol: %q", topic)
	}
	return nil
}

const mailbox = "direct:"

// lowerMailbox returns the topic in lower case, and true, if it would be a mailbox but has capital
// letters in its NodeID.
func lowerMailbox(topic string) (lower string, ok bool) {
	node, ok := strings.CutPrefix(topic, mailbox)
	if !ok || node == strings.ToLower(node) {
		return "", false
	}
	id, err := irohub.ParseNodeID(node)
	return mailbox + id.String(), err == nil
}

// checkSubscription checks a topic to subscribe to. A mailbox in capitals is a topic that one can
// publish to, but nobody can subscribe to it.
func checkSubscription(topic string) error {
	if err := checkTopic(topic); err != nil {
		return err
	}
	if lower, ok := lowerMailbox(topic); ok {
		return usagef("the NodeID of a mailbox must be in lower case: %s", lower)
	}
	return nil
}

// looksLikePattern reports whether a topic has a * that is no wildcard.
func looksLikePattern(topic string) bool {
	typ, _ := strings.CutSuffix(topic, ":*")
	return strings.Contains(topic, "*") && (typ == topic || typ == "" || strings.ContainsAny(typ, ":*"))
}

// warnOfPatterns warns of topics that look like a pattern and are none.
func warnOfPatterns(topics []string, log *slog.Logger) {
	for _, topic := range topics {
		if looksLikePattern(topic) {
			log.Warn("this topic is not a pattern and matches only itself; the only pattern is TYPE:*, for all topics of a type", "topic", topic)
		}
	}
}

// silence is the time without any event after which sub logs a likely reason.
const silence = 5 * time.Second

// silenceHint returns a likely reason why no event comes for the topics. It is empty if there is
// none.
func silenceHint(topics []string) string {
	var bare []string
	for _, topic := range topics {
		if !strings.Contains(topic, ":") && !looksLikePattern(topic) {
			bare = append(bare, topic)
		}
	}
	if len(bare) == 0 {
		return ""
	}
	return fmt.Sprintf("a topic without an id matches only events without an id; to match all events of the type, use %s:*", strings.Join(bare, ":* "))
}
