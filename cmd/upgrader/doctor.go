package main

import "github.com/spf13/cobra"

func newDoctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this kernel, container and user allow, and what follows",
		Long: `doctor tries what upgrader needs, as this user and in this container, and says in
plain words what follows. Exit status 1: something that is required is missing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return examine(cmd.OutOrStdout()) },
	}
}
