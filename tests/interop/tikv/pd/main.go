// The real PD, as its Go module is published, for tests of our client; it takes its own flags.
//
//go:debug httpmuxgo121=1
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tikv/pd/server"
	"github.com/tikv/pd/server/api"
	"github.com/tikv/pd/server/config"
)

func run() error {
	settings := config.NewConfig()
	if err := settings.Parse(os.Args[1:]); err != nil {
		return err
	}
	if err := settings.SetupLogger(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	one, err := server.CreateServer(ctx, settings, api.NewHandler)
	if err != nil {
		return err
	}
	if err := one.Run(); err != nil {
		return err
	}
	<-ctx.Done()
	one.Close()
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pd:", err)
		os.Exit(1)
	}
}
