"""View sets in shards: each shard is one job that writes one finished set, and a manifest that lists them."""
