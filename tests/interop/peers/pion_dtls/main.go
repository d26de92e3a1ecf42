// A client of pion over DTLS: Binding, an allocation, and messages there and back between two of them.
//
//	pion SERVER CA-FILE USER PASSWORD
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"github.com/pion/turn/v4"
)

const messages = 50

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 4 {
		return errors.New("usage: pion SERVER CA-FILE USER PASSWORD")
	}
	server, user, password := arguments[0], arguments[2], arguments[3]
	ca, err := os.ReadFile(arguments[1])
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	one, err := open(server, roots, user, password)
	if err != nil {
		return fmt.Errorf("the first client: %w", err)
	}
	defer one.Close()
	other, err := open(server, roots, user, password)
	if err != nil {
		return fmt.Errorf("the second client: %w", err)
	}
	defer other.Close()
	// Both permit the other before anything is sent.
	if err := errors.Join(
		one.CreatePermission(other.relay.LocalAddr()), other.CreatePermission(one.relay.LocalAddr()),
	); err != nil {
		return err
	}
	for number := range messages {
		if err := pass(one.relay, other.relay, number); err != nil {
			return err
		}
		if err := pass(other.relay, one.relay, number); err != nil {
			return err
		}
	}
	fmt.Printf("%d messages each way between %v and %v\n", messages, one.relay.LocalAddr(), other.relay.LocalAddr())
	return nil
}

type client struct {
	*turn.Client
	relay net.PacketConn
}

// packets makes datagrams of a session's records.
type packets struct{ net.Conn }

func (p packets) ReadFrom(b []byte) (int, net.Addr, error) {
	length, err := p.Read(b)
	return length, p.RemoteAddr(), err
}

func (p packets) WriteTo(b []byte, _ net.Addr) (int, error) {
	return p.Write(b)
}

func open(server string, roots *x509.CertPool, user, password string) (*client, error) {
	address, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return nil, err
	}
	session, err := dtls.Dial("udp", address, &dtls.Config{RootCAs: roots, ServerName: "turn.example.org"})
	if err != nil {
		return nil, err
	}
	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := session.HandshakeContext(deadline); err != nil {
		return nil, err
	}
	made, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server,
		TURNServerAddr: server,
		Conn:           packets{session},
		Username:       user,
		Password:       password,
		LoggerFactory:  logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		return nil, err
	}
	if err := made.Listen(); err != nil {
		return nil, err
	}
	if _, err := made.SendBindingRequest(); err != nil {
		return nil, err
	}
	relay, err := made.Allocate()
	if err != nil {
		return nil, err
	}
	return &client{made, relay}, nil
}

func pass(from, to net.PacketConn, number int) error {
	text := fmt.Sprintf("message %d", number)
	buffer := make([]byte, 1500)
	if _, err := from.WriteTo([]byte(text), to.LocalAddr()); err != nil {
		return err
	}
	if err := to.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	length, _, err := to.ReadFrom(buffer)
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if got := string(buffer[:length]); got != text {
		return fmt.Errorf("%q instead of %q", got, text)
	}
	return nil
}
