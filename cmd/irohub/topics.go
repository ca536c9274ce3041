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

// checkTopic finds what a hub would refuse, before anything is started: the rules are those of
// docs/protocol.md.
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
		return usagef("TOPIC begins with __, as the protocol's own do: %q", topic)
	}
	return nil
}

const mailbox = "direct:"

// lowerMailbox returns the mailbox that is meant, where a topic is one but for its letters.
func lowerMailbox(topic string) (lower string, ok bool) {
	node, ok := strings.CutPrefix(topic, mailbox)
	if !ok || node == strings.ToLower(node) {
		return "", false
	}
	id, err := irohub.ParseNodeID(node)
	return mailbox + id.String(), err == nil
}

// checkSubscription is checkTopic for what cannot be subscribed to besides.
func checkSubscription(topic string) error {
	if err := checkTopic(topic); err != nil {
		return err
	}
	if lower, ok := lowerMailbox(topic); ok {
		return usagef("the NodeID of a mailbox is written in lower case: %s", lower)
	}
	return nil
}

// looksLikePattern says whether a topic has a * that stands for nothing.
func looksLikePattern(topic string) bool {
	typ, _ := strings.CutSuffix(topic, ":*")
	return strings.Contains(topic, "*") && (typ == topic || typ == "" || strings.ContainsAny(typ, ":*"))
}

// warnOfPatterns tells once of topics that match less than they look like.
func warnOfPatterns(topics []string, log *slog.Logger) {
	for _, topic := range topics {
		if looksLikePattern(topic) {
			log.Warn("this topic is no pattern, and matches only itself; the only pattern is TYPE:*, for all topics of a type", "topic", topic)
		}
	}
}

// silence is how long nothing comes before a likely reason is told.
const silence = 5 * time.Second

// silenceHint is what to tell of topics of which nothing comes; empty: nothing.
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
	return fmt.Sprintf("a type alone matches only events without an id; TYPE:* matches all of the type: %s:*", strings.Join(bare, ":* "))
}
