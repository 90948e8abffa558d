// A tour with the AWS SDK for Go v2: create a data store, wait for it, search
// it.
//
//	export AWS_SHARED_CREDENTIALS_FILE=$PWD/tarn-data/credentials AWS_PROFILE=tarn AWS_REGION=us-east-1
//	export AWS_ENDPOINT_URL_HEALTHLAKE=http://127.0.0.1:8080
//	go run ./examples/go
//
// With -datastore ID it looks around in a store that is there already, and
// writes nothing.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/healthlake"
	"github.com/aws/aws-sdk-go-v2/service/healthlake/types"
)

func main() {
	datastore := flag.String("datastore", "", "look around in this data store instead of a new one")
	flag.Parse()
	if err := tour(context.Background(), *datastore); err != nil {
		log.Fatal(err)
	}
}

func tour(ctx context.Context, id string) error {
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := healthlake.NewFromConfig(settings)
	fresh := id == ""
	if fresh {
		if id, err = createStore(ctx, client); err != nil {
			return err
		}
	}
	store, err := awaitStore(ctx, client, id)
	if err != nil {
		return err
	}
	f := &fhirClient{settings: settings, endpoint: *store.DatastoreEndpoint}
	if err := f.lookAround(ctx); err != nil || !fresh {
		return err
	}
	return f.write(ctx)
}

// createStore makes a data store with synthetic patients.
func createStore(ctx context.Context, client *healthlake.Client) (string, error) {
	made, err := client.CreateFHIRDatastore(ctx, &healthlake.CreateFHIRDatastoreInput{
		DatastoreTypeVersion: types.FHIRVersionR4,
		DatastoreName:        aws.String("tour-go"),
		PreloadDataConfig:    &types.PreloadDataConfig{PreloadDataType: types.PreloadDataTypeSynthea},
	})
	if err != nil {
		return "", err
	}
	fmt.Println("created", *made.DatastoreId, "which is", made.DatastoreStatus)
	return *made.DatastoreId, nil
}

// awaitStore waits until the store is ACTIVE; the SDK for Go has no waiters for
// HealthLake.
func awaitStore(ctx context.Context, client *healthlake.Client, id string) (*types.DatastoreProperties, error) {
	for {
		found, err := client.DescribeFHIRDatastore(ctx, &healthlake.DescribeFHIRDatastoreInput{DatastoreId: &id})
		if err != nil {
			return nil, err
		}
		switch found.DatastoreProperties.DatastoreStatus {
		case types.DatastoreStatusActive:
			return found.DatastoreProperties, nil
		case types.DatastoreStatusCreating:
			time.Sleep(200 * time.Millisecond)
		default:
			return nil, fmt.Errorf("the data store is %s", found.DatastoreProperties.DatastoreStatus)
		}
	}
}

// fhirClient sends signed FHIR requests: the SDK does not know FHIR's verbs.
type fhirClient struct {
	settings aws.Config
	endpoint string // ends with /r4/
}

// do sends one request; a resource that is not nil becomes its body, and the
// answer is read into out.
func (f *fhirClient) do(ctx context.Context, method, path string, resource, out any) error {
	var body []byte
	if resource != nil {
		var err error
		if body, err = json.Marshal(resource); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, f.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if resource != nil {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	key, err := f.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), "healthlake", f.settings.Region, time.Now()); err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, raw)
	}
	return json.Unmarshal(raw, out)
}

// patient is what the tour shows of one.
type patient struct {
	ResourceType string `json:"resourceType"`
	ID           string `json:"id,omitempty"`
	Name         []struct {
		Family string   `json:"family"`
		Given  []string `json:"given"`
	} `json:"name"`
	BirthDate string `json:"birthDate,omitempty"`
	Gender    string `json:"gender,omitempty"`
}

// bundle is a search's answer.
type bundle struct {
	Total int
	Entry []struct{ Resource patient }
}

// lookAround shows a patient and a search.
func (f *fhirClient) lookAround(ctx context.Context) error {
	var patients bundle
	if err := f.do(ctx, http.MethodGet, "Patient?_count=3&_total=accurate", nil, &patients); err != nil {
		return err
	}
	fmt.Println(patients.Total, "patients, three of them:")
	for _, e := range patients.Entry {
		if len(e.Resource.Name) > 0 {
			fmt.Println("  ", e.Resource.Name[0].Family, e.Resource.BirthDate, e.Resource.Gender)
		}
	}
	query := url.Values{"code": {"http://loinc.org|8867-4"}, "subject:Patient.gender": {"female"}, "value-quantity": {"gt90"}, "_summary": {"count"}}
	var rates bundle
	if err := f.do(ctx, http.MethodGet, "Observation?"+query.Encode(), nil, &rates); err != nil {
		return err
	}
	fmt.Println(rates.Total, "heart rates above 90 of women")
	return nil
}

// write stores a patient and finds it.
func (f *fhirClient) write(ctx context.Context) error {
	var made patient
	noor := json.RawMessage(`{"resourceType":"Patient","name":[{"family":"Noor","given":["Amal"]}]}`)
	if err := f.do(ctx, http.MethodPost, "Patient", noor, &made); err != nil {
		return err
	}
	fmt.Println("stored Patient/" + made.ID)
	var found bundle
	if err := f.do(ctx, http.MethodGet, "Patient?name=noor", nil, &found); err != nil {
		return err
	}
	fmt.Println("found it at once:", len(found.Entry) == 1 && found.Entry[0].Resource.ID == made.ID)
	return nil
}
