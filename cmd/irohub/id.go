package main

import (
	"context"
	"flag"
	"fmt"

	"irohub/key"
)

var idCommand = command{
	name:     "id",
	synopsis: "-key FILE",
	text: `Prints the NodeID that belongs to the secret key in FILE, the same over either transport. If
there is no such file, it makes one with a new key, for its owner alone to read.`,
	setup: func(flags *flag.FlagSet) action {
		new(network).declareTransport(flags) // as everywhere, though it makes no difference
		file := flags.String("key", "", "the `FILE` with the secret key")
		return func(_ context.Context, args []string, std stdio) error {
			if *file == "" || len(args) > 0 {
				return usagef("-key FILE is needed, and nothing else")
			}
			secret, err := key.LoadOrCreate(*file)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(std.out, secret.ID())
			return err
		}
	},
}
