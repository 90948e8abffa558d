package awsapi

import (
	"context"
	"strconv"
)

type empty struct{}

type tagResourceRequest struct {
	ResourceARN *string
	Tags        []tag
}

func (in *tagResourceRequest) subject() Subject {
	return aboutResource(in.ResourceARN).withTags(in.Tags)
}

func (in *tagResourceRequest) check() error {
	var f findings
	requiredText(&f, "resourceARN", in.ResourceARN, resourceARN)
	if in.Tags == nil {
		f.add("tags", "null", "not be null")
	}
	checkTags(&f, in.Tags)
	return f.fault()
}

func (a *API) tagResource(ctx context.Context, in *tagResourceRequest) (empty, error) {
	if err := in.check(); err != nil {
		return empty{}, err
	}
	return empty{}, a.Plane.Tag(ctx, value(in.ResourceARN), tagsIn(in.Tags))
}

type untagResourceRequest struct {
	ResourceARN *string
	TagKeys     []string
}

func (in *untagResourceRequest) subject() Subject {
	about := aboutResource(in.ResourceARN)
	about.TagKeys = in.TagKeys
	return about
}

func (in *untagResourceRequest) check() error {
	var f findings
	requiredText(&f, "resourceARN", in.ResourceARN, resourceARN)
	if in.TagKeys == nil {
		f.add("tagKeys", "null", "not be null")
	}
	length(&f, "tagKeys", len(in.TagKeys), 0, maxTags)
	for i := range in.TagKeys {
		tagKey.check(&f, "tagKeys."+strconv.Itoa(i+1)+".member", &in.TagKeys[i])
	}
	return f.fault()
}

func (a *API) untagResource(ctx context.Context, in *untagResourceRequest) (empty, error) {
	if err := in.check(); err != nil {
		return empty{}, err
	}
	return empty{}, a.Plane.Untag(ctx, value(in.ResourceARN), in.TagKeys)
}

type listTagsForResourceRequest struct{ ResourceARN *string }

func (in *listTagsForResourceRequest) subject() Subject { return aboutResource(in.ResourceARN) }

type listTagsForResourceAnswer struct{ Tags []tag }

func (a *API) listTagsForResource(ctx context.Context, in *listTagsForResourceRequest) (listTagsForResourceAnswer, error) {
	var f findings
	requiredText(&f, "resourceARN", in.ResourceARN, resourceARN)
	if err := f.fault(); err != nil {
		return listTagsForResourceAnswer{}, err
	}
	tags, err := a.Plane.Tags(ctx, value(in.ResourceARN))
	if err != nil {
		return listTagsForResourceAnswer{}, err
	}
	return listTagsForResourceAnswer{tagsOut(tags)}, nil
}
