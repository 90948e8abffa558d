package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// What follows is not AWS's: operations of Tarn's own beside the model, under
// X-Amz-Target HealthLake.<Operation> like all others, signed and judged the same
// way. AWS's clients do not know them, `tarn datastore settings` speaks them.

// operatorAnswer holds a data store's operator settings: as they are set, and as
// they hold, defaults included.
type operatorAnswer struct {
	DatastoreId string
	Settings    datastore.Operator
	Effective   effective
}

func (a operatorAnswer) about() string { return a.DatastoreId }

// effective is datastore.Operator with every member written.
type effective datastore.Operator

func (e effective) MarshalJSON() ([]byte, error) {
	members := map[string]any{}
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		members[v.Type().Field(i).Name] = v.Field(i).Interface()
	}
	return json.Marshal(members)
}

func operatorOut(d *datastore.Datastore) operatorAnswer {
	return operatorAnswer{d.ID, d.Operator, effective(d.Operator.Effective())}
}

func (a *API) describeDatastoreSettings(ctx context.Context, in *datastoreIDRequest) (operatorAnswer, error) {
	if err := in.check(); err != nil {
		return operatorAnswer{}, err
	}
	d, err := a.Plane.Describe(ctx, value(in.DatastoreId))
	if err != nil {
		return operatorAnswer{}, err
	}
	return operatorOut(d), nil
}

// updateDatastoreSettingsRequest changes the members of Settings that are there
// (null: back to the default), after Preset, where one is given, has replaced
// them all.
type updateDatastoreSettingsRequest struct {
	DatastoreId *string
	Preset      *string
	Settings    map[string]json.RawMessage
}

func (in *updateDatastoreSettingsRequest) subject() Subject { return aboutStore(in.DatastoreId) }

// presets are whole sets of settings by name.
var presets = map[string]func() datastore.Operator{
	"TARN":       func() datastore.Operator { return datastore.Operator{} },
	"HEALTHLAKE": datastore.HealthLakeOperator,
}

func (in *updateDatastoreSettingsRequest) check() error {
	var f findings
	requiredText(&f, "datastoreId", in.DatastoreId, datastoreID)
	enum{"HEALTHLAKE", "TARN"}.check(&f, "preset", in.Preset)
	if in.Preset == nil && len(in.Settings) == 0 {
		f.add("settings", "null", "not be null without a preset")
	}
	return f.fault()
}

func (a *API) updateDatastoreSettings(ctx context.Context, in *updateDatastoreSettingsRequest) (operatorAnswer, error) {
	if err := in.check(); err != nil {
		return operatorAnswer{}, err
	}
	d, err := a.Plane.Operate(ctx, value(in.DatastoreId), func(o *datastore.Operator) error {
		if in.Preset != nil {
			*o = presets[*in.Preset]()
		}
		return mergeOperator(o, in.Settings)
	})
	if err != nil {
		return operatorAnswer{}, err
	}
	return operatorOut(d), nil
}

// mergeOperator sets members by name.
func mergeOperator(o *datastore.Operator, members map[string]json.RawMessage) error {
	v := reflect.ValueOf(o).Elem()
	for name, raw := range members {
		field := v.FieldByName(name)
		if !field.IsValid() {
			return settingFault(name, "no such setting", "settings are "+strings.Join(settingNames(), ", "))
		}
		if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
			field.SetZero()
			continue
		}
		if err := jsonv2.Unmarshal(raw, field.Addr().Interface()); err != nil {
			return settingFault(name, "it takes a JSON "+map[reflect.Kind]string{reflect.Bool: "boolean", reflect.Int: "whole number"}[field.Kind()], "")
		}
	}
	return nil
}

func settingNames() []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[datastore.Operator]()) {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

func settingFault(name, detail, hint string) error {
	if len(name) > maxQuoted {
		name = strings.ToValidUTF8(name[:maxQuoted], "") + "…"
	}
	return &fault.Error{Kind: fault.Invalid, Op: "awsapi.settings", Subject: "settings." + name, Detail: detail, Hint: hint}
}
