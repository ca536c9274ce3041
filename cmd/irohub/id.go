package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"irohub/key"
)

var idCommand = command{
	name:     "id",
	synopsis: "--key FILE",
	short:    "Print the NodeID of a secret key",
	text: `Prints the NodeID of the secret key in FILE. It is the same for both transports. If the
file does not exist, it is created with a new key, readable only by its owner.`,
	setup: func(flags *pflag.FlagSet) action {
		new(network).declareTransport(flags) // accepted as in every command, though it makes no difference
		file := flags.String("key", "", "the `FILE` with the secret key")
		return func(_ context.Context, args []string, std stdio) error {
			if err := unexpected(args); err != nil {
				return err
			}
			if *file == "" {
				return usagef("--key FILE is needed")
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
