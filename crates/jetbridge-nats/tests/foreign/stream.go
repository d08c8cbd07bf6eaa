package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is one that came.
type message struct {
	Subject  string              `json:"subject"`
	Headers  map[string][]string `json:"headers"`
	Value    []byte              `json:"value"`
	Sequence uint64              `json:"sequence"`
	Attempt  uint64              `json:"attempt"`
}

func (r request) message() *nats.Msg {
	return &nats.Msg{Subject: r.Subject, Header: nats.Header(r.Headers), Data: r.Value}
}

func (c *client) stream(ctx context.Context, r request) (any, error) {
	config := jetstream.StreamConfig{
		Name: r.Stream, Subjects: r.Subjects, Description: r.Description, MaxAge: ms(r.TTL),
		MaxBytes: r.MaxBytes, Storage: storage(r.Memory), AllowDirect: r.Direct,
	}
	if r.Update {
		_, err := c.js.CreateOrUpdateStream(ctx, config)
		return nil, err
	}
	_, err := c.js.CreateStream(ctx, config)
	return nil, err
}

func (c *client) streamStatus(ctx context.Context, r request) (any, error) {
	stream, err := c.js.Stream(ctx, r.Stream)
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"subjects": info.Config.Subjects, "description": info.Config.Description,
		"ttl_ms": info.Config.MaxAge.Milliseconds(), "max_bytes": info.Config.MaxBytes,
		"messages": info.State.Msgs,
	}, nil
}

func (c *client) append(ctx context.Context, r request) (any, error) {
	var opts []jetstream.PublishOpt
	if r.ID != "" {
		opts = append(opts, jetstream.WithMsgID(r.ID))
	}
	ack, err := c.js.PublishMsg(ctx, r.message(), opts...)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"stream": ack.Stream, "sequence": ack.Sequence, "duplicate": ack.Duplicate,
	}, nil
}

// consumer makes a durable consumer, with settings that not every client has.
func (c *client) consumer(ctx context.Context, r request) (any, error) {
	_, err := c.js.CreateConsumer(ctx, r.Stream, jetstream.ConsumerConfig{
		Durable: r.Durable, AckPolicy: jetstream.AckExplicitPolicy, Description: r.Description,
		FilterSubjects: r.Subjects, HeadersOnly: r.HeadersOnly, MaxDeliver: 9,
		BackOff: []time.Duration{time.Minute, time.Hour},
	})
	return nil, err
}

func (c *client) consumerStatus(ctx context.Context, r request) (any, error) {
	consumer, err := c.js.Consumer(ctx, r.Stream, r.Durable)
	if err != nil {
		return nil, err
	}
	config := consumer.CachedInfo().Config
	return map[string]any{
		"description": config.Description, "backoff": config.BackOff,
		"max_deliver": config.MaxDeliver,
	}, nil
}

// fetch takes so many messages of a durable consumer, which is made if missing, and settles them.
func (c *client) fetch(ctx context.Context, r request) (any, error) {
	consumer, err := c.js.Consumer(ctx, r.Stream, r.Durable)
	if err != nil {
		consumer, err = c.js.CreateConsumer(ctx, r.Stream, jetstream.ConsumerConfig{
			Durable: r.Durable, AckPolicy: jetstream.AckExplicitPolicy,
		})
	}
	if err != nil {
		return nil, err
	}
	batch, err := consumer.Fetch(r.Count, jetstream.FetchMaxWait(10*time.Second))
	if err != nil {
		return nil, err
	}
	var found []message
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return nil, err
		}
		found = append(found, message{
			m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream, meta.NumDelivered,
		})
		if err := m.DoubleAck(ctx); err != nil {
			return nil, err
		}
	}
	return found, batch.Error()
}

func (c *client) publish(_ context.Context, r request) (any, error) {
	if err := c.conn.PublishMsg(r.message()); err != nil {
		return nil, err
	}
	return nil, c.conn.Flush()
}

func (c *client) ask(ctx context.Context, r request) (any, error) {
	m, err := c.conn.RequestMsgWithContext(ctx, r.message())
	if err != nil {
		return nil, err
	}
	return message{Subject: m.Subject, Headers: m.Header, Value: m.Data}, nil
}

// answer gives every request on a subject its own bytes back, with its headers.
func (c *client) answer(_ context.Context, r request) (any, error) {
	_, err := c.conn.Subscribe(r.Subject, func(m *nats.Msg) {
		_ = m.RespondMsg(&nats.Msg{Header: m.Header, Data: m.Data})
	})
	if err != nil {
		return nil, err
	}
	return nil, c.conn.Flush()
}
