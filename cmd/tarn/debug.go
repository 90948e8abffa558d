package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
)

// debugServer serves Go's profiles (net/http/pprof) of this process, for those
// who work on Tarn. It is off unless asked for, and stands on a loopback address
// only: profiles tell of requests under way, and taking one costs time.
type debugServer struct {
	listener net.Listener
	web      *http.Server
	log      *slog.Logger
}

// debug opens the profiles' own address; nil where none is asked for.
func (c *serveCommand) debug(ctx context.Context, log *slog.Logger) (*debugServer, error) {
	if c.DebugListen == "" {
		return nil, nil
	}
	if !isLoopback(c.DebugListen) {
		return nil, fmt.Errorf("--debug-listen: %q is not a loopback address", c.DebugListen)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.DebugListen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	d := &debugServer{listener: listener, log: log, web: &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader}}
	go d.serve()
	return d, nil
}

func (d *debugServer) serve() {
	d.log.Warn("profiles are served", "url", "http://"+d.listener.Addr().String()+"/debug/pprof/")
	if err := d.web.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		d.log.Error("profiles are no longer served", "error", err)
	}
}

// close ends it, with what is being taken.
func (d *debugServer) close() error {
	if d == nil {
		return nil
	}
	return d.web.Close()
}
