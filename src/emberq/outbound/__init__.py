"""The outbound door: every HTTP request of emberq to other servers goes through `client.OutboundClient`."""
