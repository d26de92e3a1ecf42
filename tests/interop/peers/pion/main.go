// pion, which LiveKit's server and Go clients are made of, behind the peers' protocol of stdio.mjs.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pion/webrtc/v4"
)

const messages = 50

// The most of a line: a description with all its candidates.
const lineMax = 1 << 20

type config struct {
	ICEServers []struct {
		URLs       string `json:"urls"`
		Username   string `json:"username"`
		Credential string `json:"credential"`
	} `json:"iceServers"`
	Policy string `json:"policy"`
}

type description struct {
	Type   string   `json:"type"`
	SDP    string   `json:"sdp"`
	Errors []string `json:"errors"`
}

type pair struct {
	Local    string `json:"local"`
	Remote   string `json:"remote"`
	Protocol string `json:"protocol"`
}

type result struct {
	Exact  int   `json:"exact"`
	Frames *int  `json:"frames"`
	Pair   *pair `json:"pair"`
}

type call struct {
	pc    *webrtc.PeerConnection
	exact int        // touched by one channel's handler only, until ended has a value
	ended chan error // nil when all messages have arrived
}

func message(i int) string {
	text := fmt.Sprintf("%d:", i)
	return text + strings.Repeat("x", 1000-len(text))
}

func start(config config) (*call, error) {
	configuration := webrtc.Configuration{ICETransportPolicy: webrtc.NewICETransportPolicy(config.Policy)}
	for _, server := range config.ICEServers {
		configuration.ICEServers = append(configuration.ICEServers, webrtc.ICEServer{
			URLs: []string{server.URLs}, Username: server.Username, Credential: server.Credential,
		})
	}
	pc, err := webrtc.NewPeerConnection(configuration)
	if err != nil {
		return nil, err
	}
	c := &call{pc: pc, ended: make(chan error, 1)}
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed {
			c.end(errors.New("ICE failed"))
		}
	})
	return c, nil
}

// end keeps the first end only.
func (c *call) end(err error) {
	select {
	case c.ended <- err:
	default:
	}
}

func (c *call) count(data string) {
	if data != message(c.exact) {
		c.end(fmt.Errorf("message %d arrived damaged", c.exact))
		return
	}
	c.exact++
	if c.exact == messages {
		c.end(nil)
	}
}

func (c *call) describe(local webrtc.SessionDescription) (any, error) {
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(local); err != nil {
		return nil, err
	}
	<-gathered
	all := c.pc.LocalDescription()
	return description{all.Type.String(), all.SDP, []string{}}, nil
}

func (c *call) offer() (any, error) {
	channel, err := c.pc.CreateDataChannel("echo", nil)
	if err != nil {
		return nil, err
	}
	send := func() {
		if err := channel.SendText(message(c.exact)); err != nil {
			c.end(err)
		}
	}
	channel.OnOpen(send)
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		c.count(string(m.Data))
		if c.exact < messages {
			send()
		}
	})
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		return nil, err
	}
	return c.describe(offer)
}

func (c *call) answer(offer description) (any, error) {
	c.pc.OnDataChannel(func(channel *webrtc.DataChannel) {
		channel.OnMessage(func(m webrtc.DataChannelMessage) {
			if err := channel.SendText(string(m.Data)); err != nil {
				c.end(err)
			}
			c.count(string(m.Data))
		})
	})
	if err := c.accept(offer); err != nil {
		return nil, err
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return nil, err
	}
	return c.describe(answer)
}

func (c *call) accept(remote description) error {
	return c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.NewSDPType(remote.Type), SDP: remote.SDP})
}

func (c *call) result() (any, error) {
	if err := <-c.ended; err != nil {
		return nil, err
	}
	stats, ok := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePairStats()
	if !ok {
		return nil, errors.New("no selected pair")
	}
	found := &pair{}
	for _, entry := range c.pc.GetStats() {
		if candidate, ok := entry.(webrtc.ICECandidateStats); ok {
			switch candidate.ID {
			case stats.LocalCandidateID:
				found.Local, found.Protocol = candidate.CandidateType.String(), candidate.RelayProtocol
			case stats.RemoteCandidateID:
				found.Remote = candidate.CandidateType.String()
			}
		}
	}
	return result{Exact: messages, Pair: found}, nil
}

func serve(c **call, method string, argument json.RawMessage) (any, error) {
	var remote description
	if method == "answer" || method == "accept" {
		if err := json.Unmarshal(argument, &remote); err != nil {
			return nil, err
		}
	}
	switch method {
	case "start":
		var config config
		if err := json.Unmarshal(argument, &config); err != nil {
			return nil, err
		}
		var err error
		*c, err = start(config)
		return nil, err
	case "offer":
		return (*c).offer()
	case "answer":
		return (*c).answer(remote)
	case "accept":
		return nil, (*c).accept(remote)
	case "result":
		return (*c).result()
	case "close":
		return nil, (*c).pc.Close()
	}
	return nil, fmt.Errorf("no method %q", method)
}

func main() {
	var c *call
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		var request struct {
			Method   string          `json:"method"`
			Argument json.RawMessage `json:"argument"`
		}
		reply := map[string]any{}
		err := json.Unmarshal(lines.Bytes(), &request)
		if err == nil {
			reply["value"], err = serve(&c, request.Method, request.Argument)
		}
		if err != nil {
			reply = map[string]any{"error": err.Error()}
		}
		line, err := json.Marshal(reply)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
		if request.Method == "close" {
			return
		}
	}
}
