// Command tarn is the whole of Tarn: server, operator's tool and key keeper in
// one binary.
//
//	tarn serve                        the server
//	tarn datastore create|list|…      the control plane, from a shell
//	tarn import FILES --datastore ID  files into a data store
//	tarn job list|watch|…             jobs of a data store
//	tarn key create|list|…            the built-in key management service
//	tarn backup, tarn restore         backups, and stores made of them
//	tarn check, tarn compact          look stores through; put their files into order
//	tarn explain                      how a search is understood and carried out
//	tarn iam user|key|role|policy …   who may do what
//	tarn proxy                        signs for tools that cannot
//	tarn credentials                  the root's access key
//	tarn version
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// cli is the command line; every flag is also an environment variable TARN_…
// and a key of the configuration file.
type cli struct {
	Config kong.ConfigFlag `help:"JSON file with defaults for any flag, by its name." placeholder:"FILE" env:"TARN_CONFIG"`

	Serve       serveCommand       `cmd:"" help:"Run the server."`
	Datastore   datastoreCommand   `cmd:"" help:"Create, list, describe, update, delete and await data stores."`
	Import      importCommand      `cmd:"" help:"Import files into a data store, and watch the job."`
	Export      exportCommand      `cmd:"" help:"Export a data store to files, and watch the job."`
	Job         jobCommand         `cmd:"" help:"List, describe, cancel and watch jobs."`
	Key         keyCommand         `cmd:"" help:"Keep the keys of the built-in key management service."`
	Backup      backupCommand      `cmd:"" help:"Bring a data store's backup up to date."`
	Restore     restoreCommand     `cmd:"" help:"Make a new data store of a backup, at any moment of its retention."`
	Check       checkCommand       `cmd:"" help:"Look data stores through, and mend what can be derived."`
	Explain     explainCommand     `cmd:"" help:"Show how a search is understood and carried out."`
	Compact     compactCommand     `cmd:"" help:"Put a data store's files into order, while it serves."`
	IAM         iamCommand         `cmd:"" name:"iam" help:"Keep users, access keys, roles and policies."`
	Proxy       proxyCommand       `cmd:"" help:"Sign on loopback for tools that cannot."`
	Credentials credentialsCommand `cmd:"" help:"Show the root's access key, for AWS clients."`
	Version     versionCommand     `cmd:"" help:"Show the version."`
}

func main() {
	os.Exit(run(os.Args[1:]))
}

// run parses, runs and gives the exit status: 0 done, 1 failed, 2 not
// understood.
func run(args []string) int {
	if len(args) == 1 && args[0] == "help" {
		args = []string{"--help"}
	}
	var c cli
	parser, err := kong.New(&c, options()...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tarn:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tarn:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tarn:", said(err))
		return 1
	}
	return 0
}

// said is what an operator reads of an error: the message of one of ours, and all that
// is known of one that nobody foresaw.
func said(err error) string {
	ours, ok := errors.AsType[*fault.Error](err)
	if ok && ours.Kind != fault.Internal && err.Error() == ours.Error() { // else what is around it says more
		return ours.Message()
	}
	return err.Error()
}

// options are how the command line is read.
func options() []kong.Option {
	return []kong.Option{
		kong.Name("tarn"),
		kong.Description("A FHIR R4 data store service that stands in for AWS HealthLake."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.DefaultEnvars("TARN"),
		kong.Configuration(readConfig),
	}
}
