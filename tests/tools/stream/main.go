// stream speaks to a streaming endpoint (the kubelet's or a runtime's own) as kubectl does, without an API server between.
//
//	stream exec|attach [-websocket] [-i] [-t] URL        stdin, stdout and stderr are the session's; exits with its code
//	stream forward [-websocket] URL LOCAL:REMOTE...      prints "ready", serves until its stdin ends
//
// Certificates are not checked: it is for tests on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "stream:", err)
		code = max(code, 125)
	}
	os.Exit(code)
}

func run(arguments []string) (int, error) {
	if len(arguments) == 0 {
		return 2, errors.New("expected exec, attach or forward")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ContinueOnError)
	websocket := flags.Bool("websocket", false, "by WebSocket in place of SPDY")
	stdin := flags.Bool("i", false, "with stdin")
	tty := flags.Bool("t", false, "the session has a terminal")
	if err := flags.Parse(arguments[1:]); err != nil {
		return 2, err
	}
	target, err := url.Parse(flags.Arg(0))
	if err != nil || target.Host == "" {
		return 2, fmt.Errorf("URL: %q: expected one with a host", flags.Arg(0))
	}
	config := &rest.Config{Host: target.Host, TLSClientConfig: rest.TLSClientConfig{Insecure: target.Scheme == "https"}}
	switch arguments[0] {
	case "exec", "attach":
		return converse(config, target, *websocket, *stdin, *tty)
	case "forward":
		return 0, forward(config, target, *websocket, flags.Args()[1:])
	}
	return 2, fmt.Errorf("%q: expected exec, attach or forward", arguments[0])
}

func converse(config *rest.Config, target *url.URL, websocket, stdin, tty bool) (int, error) {
	var executor remotecommand.Executor
	var err error
	if websocket {
		executor, err = remotecommand.NewWebSocketExecutor(config, http.MethodGet, target.String())
	} else {
		executor, err = remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
	}
	if err != nil {
		return 0, err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: tty}
	if stdin {
		options.Stdin = os.Stdin
	}
	if !tty {
		options.Stderr = os.Stderr
	}
	err = executor.StreamWithContext(context.Background(), options)
	var ended exec.CodeExitError
	if errors.As(err, &ended) {
		return ended.Code, nil
	}
	return 0, err
}

func forward(config *rest.Config, target *url.URL, websocket bool, ports []string) error {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return err
	}
	var dialer httpstream.Dialer = spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	if websocket {
		if dialer, err = portforward.NewSPDYOverWebsocketDialer(target, config); err != nil {
			return err
		}
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	go func() {
		<-ready
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	return forwarder.ForwardPorts()
}
