package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// explainCommand asks the server for a search with _explain=true and prints what
// it tells.
type explainCommand struct {
	connection
	ID     string `arg:"" help:"Data store id."`
	Search string `arg:"" help:"The search, as behind the data store's endpoint: 'Observation?code=8480-6&date=ge2024'."`
}

// Run prints the explanation; no resource is printed.
func (c *explainCommand) Run(ctx context.Context) error {
	path, query, _ := strings.Cut(strings.TrimPrefix(c.Search, "/"), "?")
	if query != "" {
		query += "&"
	}
	where := fmt.Sprintf("%s/datastore/%s/r4/%s?%s_explain=true", strings.TrimRight(c.Endpoint, "/"), url.PathEscape(c.ID), path, query)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	if err := c.sign(ctx, req, nil, "healthlake"); err != nil {
		return err
	}
	reply, err := fetched(req)
	if err != nil {
		return err
	}
	text, err := explanationIn(reply.code, reply.body)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(map[string]string{"DatastoreId": c.ID, "Explanation": text})
	}
	fmt.Print(text)
	return nil
}

// outcomeIn is what of an OperationOutcome, or of a Bundle with one, is read.
type outcomeIn struct {
	Issue []struct{ Diagnostics string }
	Entry []struct {
		Search   struct{ Mode string }
		Resource struct {
			Issue []struct{ Diagnostics string }
		}
	}
}

// explanationIn finds the explanation in an answer.
func explanationIn(status int, raw []byte) (string, error) {
	var answer outcomeIn
	if err := json.Unmarshal(raw, &answer); err != nil {
		return "", fmt.Errorf("the server answered %d: %w", status, err)
	}
	if status != http.StatusOK {
		for _, issue := range answer.Issue {
			return "", fmt.Errorf("the server answered %d: %s", status, issue.Diagnostics)
		}
		return "", fmt.Errorf("the server answered %d", status)
	}
	for _, e := range answer.Entry {
		for _, issue := range e.Resource.Issue {
			if e.Search.Mode == "outcome" && strings.HasPrefix(issue.Diagnostics, "understood ") {
				return issue.Diagnostics, nil
			}
		}
	}
	return "", errors.New("the server explained nothing")
}
