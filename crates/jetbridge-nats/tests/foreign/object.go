package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// object is what is known of one.
type object struct {
	Name        string              `json:"name"`
	Description string              `json:"description"`
	Headers     map[string][]string `json:"headers"`
	Size        uint64              `json:"size"`
	Chunks      uint32              `json:"chunks"`
	Digest      string              `json:"digest"`
	Deleted     bool                `json:"deleted"`
	Timed       bool                `json:"timed"`
	ToBucket    string              `json:"to_bucket"`
	To          string              `json:"to"`
}

func objectOf(info *jetstream.ObjectInfo) object {
	found := object{
		Name: info.Name, Description: info.Description, Headers: info.Headers, Size: info.Size,
		Chunks: info.Chunks, Digest: info.Digest, Deleted: info.Deleted,
		Timed: !info.ModTime.IsZero(),
	}
	if info.Opts != nil && info.Opts.Link != nil {
		found.ToBucket, found.To = info.Opts.Link.Bucket, info.Opts.Link.Name
	}
	return found
}

func (c *client) objectBucket(ctx context.Context, r request) (any, error) {
	config := jetstream.ObjectStoreConfig{
		Bucket: r.Bucket, Description: r.Description, TTL: ms(r.TTL), MaxBytes: r.MaxBytes,
		Storage: storage(r.Memory), Compression: r.Compression, Metadata: r.Metadata,
	}
	if r.Update {
		_, err := c.js.CreateOrUpdateObjectStore(ctx, config)
		return nil, err
	}
	_, err := c.js.CreateObjectStore(ctx, config)
	return nil, err
}

func (c *client) objectBucketStatus(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	status, err := store.Status(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"description": status.Description(), "ttl_ms": status.TTL().Milliseconds(),
		"memory": status.Storage() == jetstream.MemoryStorage, "sealed": status.Sealed(),
		"compression": status.IsCompressed(), "metadata": status.Metadata(),
	}, nil
}

func (c *client) objectPut(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	meta := jetstream.ObjectMeta{
		Name: r.Name, Description: r.Description, Headers: nats.Header(r.Headers),
		Metadata: r.Metadata,
	}
	if r.ChunkBytes != 0 {
		meta.Opts = &jetstream.ObjectMetaOptions{ChunkSize: r.ChunkBytes}
	}
	info, err := store.Put(ctx, meta, bytes.NewReader(r.Value))
	if err != nil {
		return nil, err
	}
	return objectOf(info), nil
}

func (c *client) objectGet(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return store.GetBytes(ctx, r.Name)
}

func (c *client) objectInfo(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	info, err := store.GetInfo(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	return objectOf(info), nil
}

func (c *client) objectDelete(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return nil, store.Delete(ctx, r.Name)
}

func (c *client) objectList(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	infos, err := store.List(ctx)
	var found []object
	for _, info := range infos {
		found = append(found, objectOf(info))
	}
	return found, err
}

func (c *client) objectLink(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	target, err := c.js.ObjectStore(ctx, r.ToBucket)
	if err != nil {
		return nil, err
	}
	info, err := target.GetInfo(ctx, r.Key)
	if err != nil {
		return nil, err
	}
	_, err = store.AddLink(ctx, r.Name, info)
	return nil, err
}

func (c *client) objectLinkBucket(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	target, err := c.js.ObjectStore(ctx, r.ToBucket)
	if err != nil {
		return nil, err
	}
	_, err = store.AddBucketLink(ctx, r.Name, target)
	return nil, err
}

func (c *client) objectSeal(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return nil, store.Seal(ctx)
}

// objectWatch begins the watch that objectNext takes from; there is one at a time.
func (c *client) objectWatch(ctx context.Context, r request) (any, error) {
	store, err := c.js.ObjectStore(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	c.objects, err = store.Watch(context.Background())
	return nil, err
}

// objectNext is the watch's next change; none at the end of what was there.
func (c *client) objectNext(ctx context.Context, _ request) (any, error) {
	select {
	case info, open := <-c.objects.Updates():
		if !open {
			return nil, fmt.Errorf("the watch has ended")
		}
		if info == nil {
			return nil, nil
		}
		return objectOf(info), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
