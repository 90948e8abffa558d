package main

import (
	"fmt"

	"github.com/tarn-fhir/tarn/internal/iam"
)

type credentialsCommand struct {
	DataDir string `name:"data" help:"The server's data folder." default:"./tarn-data" env:"TARN_DATA"`
	Output  string `help:"How to print: ${enum}." enum:"env,profile,json" default:"env" env:"TARN_CREDENTIALS_OUTPUT"`
}

// Run prints the access key that the server made: as shell exports, as a
// profile, or as what an AWS credential_process prints.
func (c *credentialsCommand) Run() error {
	key, err := iam.Load(credentialsFile(c.DataDir))
	if err != nil {
		return err
	}
	switch c.Output {
	case "profile":
		fmt.Printf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", iam.Profile, key.AccessKeyID, key.SecretAccessKey)
	case "json":
		return printJSON(map[string]any{"Version": 1, "AccessKeyId": key.AccessKeyID, "SecretAccessKey": key.SecretAccessKey})
	default:
		fmt.Printf("export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n", key.AccessKeyID, key.SecretAccessKey)
	}
	return nil
}
