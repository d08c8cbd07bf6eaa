package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// entry is a stored value or deletion.
type entry struct {
	Key      string `json:"key"`
	Op       string `json:"op"`
	Value    []byte `json:"value"`
	Revision uint64 `json:"revision"`
}

func entryOf(e jetstream.KeyValueEntry) entry {
	names := map[jetstream.KeyValueOp]string{
		jetstream.KeyValuePut: "put", jetstream.KeyValueDelete: "delete",
		jetstream.KeyValuePurge: "purge",
	}
	return entry{e.Key(), names[e.Operation()], e.Value(), e.Revision()}
}

func (c *client) bucket(ctx context.Context, r request) (any, error) {
	config := jetstream.KeyValueConfig{
		Bucket: r.Bucket, Description: r.Description, History: r.History, TTL: ms(r.TTL),
		MaxBytes: r.MaxBytes, MaxValueSize: r.MaxValue, Storage: storage(r.Memory),
		Compression: r.Compression, Metadata: r.Metadata, LimitMarkerTTL: ms(r.MarkerTTL),
	}
	if r.Update {
		_, err := c.js.CreateOrUpdateKeyValue(ctx, config)
		return nil, err
	}
	_, err := c.js.CreateKeyValue(ctx, config)
	return nil, err
}

func (c *client) bucketStatus(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, err
	}
	config := status.Config()
	return map[string]any{
		"values": status.Values(), "history": status.History(), "ttl_ms": status.TTL().Milliseconds(),
		"max_bytes": config.MaxBytes, "max_value_bytes": config.MaxValueSize,
		"description": config.Description, "memory": config.Storage == jetstream.MemoryStorage,
		"compression":   status.IsCompressed(),
		"metadata":      status.Metadata(),
		"marker_ttl_ms": status.LimitMarkerTTL().Milliseconds(),
	}, nil
}

func (c *client) kvPut(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return kv.Put(ctx, r.Key, r.Value)
}

func (c *client) kvCreate(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	if r.TTL != 0 {
		return kv.Create(ctx, r.Key, r.Value, jetstream.KeyTTL(ms(r.TTL)))
	}
	return kv.Create(ctx, r.Key, r.Value)
}

func (c *client) kvUpdate(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return kv.Update(ctx, r.Key, r.Value, r.Revision)
}

func (c *client) kvGet(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	found, err := kv.Get(ctx, r.Key)
	if err != nil {
		return nil, err
	}
	return entryOf(found), nil
}

func deletion(r request) []jetstream.KVDeleteOpt {
	var opts []jetstream.KVDeleteOpt
	if r.Revision != 0 {
		opts = append(opts, jetstream.LastRevision(r.Revision))
	}
	if r.TTL != 0 {
		opts = append(opts, jetstream.PurgeTTL(ms(r.TTL)))
	}
	return opts
}

func (c *client) kvDelete(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return nil, kv.Delete(ctx, r.Key, deletion(r)...)
}

func (c *client) kvPurge(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return nil, kv.Purge(ctx, r.Key, deletion(r)...)
}

func (c *client) kvKeys(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	keys, err := kv.Keys(ctx)
	slices.Sort(keys)
	return keys, err
}

func (c *client) kvHistory(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	found, err := kv.History(ctx, r.Key)
	var entries []entry
	for _, e := range found {
		entries = append(entries, entryOf(e))
	}
	return entries, err
}

// kvWatch begins the watch that kvNext takes from; there is one at a time.
func (c *client) kvWatch(ctx context.Context, r request) (any, error) {
	kv, err := c.js.KeyValue(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	c.keys, err = kv.WatchAll(context.Background())
	return nil, err
}

// kvNext is the watch's next change; none at the end of what was there.
func (c *client) kvNext(ctx context.Context, _ request) (any, error) {
	select {
	case e, open := <-c.keys.Updates():
		if !open {
			return nil, fmt.Errorf("the watch has ended")
		}
		if e == nil {
			return nil, nil
		}
		return entryOf(e), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
