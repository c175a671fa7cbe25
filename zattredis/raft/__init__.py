"""zattredis.raft"""
