package main

import (
	"fmt"
	"maps"

	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/fhirapi"
	"github.com/tarn-fhir/tarn/internal/throttle"
)

// quotaFlags are limits per action, data store and account.
type quotaFlags struct {
	Quotas        string            `help:"Quotas to begin from: ${enum}. healthlake: AWS's own." enum:"none,healthlake" default:"none" env:"TARN_QUOTAS"`
	Quota         map[string]string `help:"One quota: ACTION.store or ACTION.account, =, and a rate such as 100/s, 10/m or 0 for none; several with ; between." mapsep:";" placeholder:"NAME=RATE" env:"TARN_QUOTA"`
	MaxDatastores int               `help:"Data stores that may be there; 0: no limit, or AWS's 20 under --quotas healthlake." default:"0" env:"TARN_MAX_DATASTORES"`
}

// presetHealthLake is the word for AWS's quotas.
const presetHealthLake = "healthlake"

// healthLakeDatastores is AWS's quota of data stores in an account (Amazon
// HealthLake endpoints and quotas).
const healthLakeDatastores = 20

// quotas are the rates that hold.
func (f *quotaFlags) quotas() (map[throttle.Key]throttle.Rate, error) {
	all := map[throttle.Key]throttle.Rate{}
	if f.Quotas == presetHealthLake {
		maps.Copy(all, throttle.HealthLake())
	}
	actions := requestActions()
	for name, text := range f.Quota {
		key, err := throttle.ParseKey(name, func(action string) bool { return actions[action] })
		if err != nil {
			return nil, fmt.Errorf("--quota: %w", err)
		}
		if all[key], err = throttle.ParseRate(text); err != nil {
			return nil, fmt.Errorf("--quota %s: %w", name, err)
		}
	}
	return all, nil
}

func (f *quotaFlags) checkQuotas() error {
	if f.MaxDatastores < 0 {
		return fmt.Errorf("--max-datastores: %d is negative", f.MaxDatastores)
	}
	_, err := f.quotas()
	return err
}

// maxDatastores is how many data stores there may be; 0: no limit.
func (f *quotaFlags) maxDatastores() int {
	if f.MaxDatastores == 0 && f.Quotas == presetHealthLake {
		return healthLakeDatastores
	}
	return f.MaxDatastores
}

// requestActions are the actions of both planes' requests.
func requestActions() map[string]bool {
	all := map[string]bool{}
	for _, name := range awsapi.Operations() {
		all[name] = true
	}
	for _, name := range fhirapi.Actions() {
		all[name] = true
	}
	return all
}

// limiter bounds how fast requests are taken.
func (c *serveCommand) limiter() (*throttle.Limiter, error) {
	quotas, err := c.quotas()
	return throttle.New(throttle.Limits{
		Control: c.ControlRate, ControlBurst: c.ControlBurst, Store: c.StoreRate, StoreBurst: c.StoreBurst, Quotas: quotas,
	}), err
}
