"""What every resource uses: database, tables, settings, errors, requests, the queue. It knows no resource."""
