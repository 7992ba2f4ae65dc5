// Browsers refuse web workers to pages that are opened from the disk. The search then runs in a hidden frame,
// which the theme recognizes by the name IFrameWorker.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const script = frame.contentDocument.createElement("script")
      frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", {data}))
      script.onload = () => {
        this.inside = frame.contentWindow
        this.waiting.splice(0).forEach((data) => this.postMessage(data))
      }
      script.src = url
      frame.contentDocument.body.append(script)
    }

    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new MessageEvent("message", {data}))
      else this.waiting.push(data)
    }
  }
}
